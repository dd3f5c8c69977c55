"""Rotations by rows, columns and time against the encoders and language models of transformers."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import (
    Llama4VisionConfig,
    PixtralVisionConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
)
from transformers.models.llama4 import modeling_llama4
from transformers.models.pixtral import modeling_pixtral
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen3_vl import modeling_qwen3_vl
from transformers.vision_utils import get_vision_position_ids

from tinystar_np.kernels.rope import default_frequencies, rotary_angles, rotary_embedding
from tinystar_np.kernels.rope_axes import (
    frequencies_in_turns,
    frequencies_twice,
    grid_positions,
    halves,
    positions_by_axis,
    rotary_angles_by_axis,
    sections,
    sections_in_turns,
)

K, THETA = 16, 100.0


def heads(tokens: int, width: int = K) -> np.ndarray:
    return np.random.default_rng(tokens).standard_normal((1, 2, tokens, width), dtype=np.float32)


def rotated(
    x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray, axes: np.ndarray, interleaved: bool = False
) -> np.ndarray:
    angles = rotary_angles_by_axis(positions, frequencies, axes)
    return rotary_embedding(x, np.cos(angles), np.sin(angles), interleaved)


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-6)


def test_definition() -> None:
    """Each angle by itself."""
    positions = np.array([[3, 0, 5], [1, 7, 2], [0, 9, 9]])
    axes, frequencies = np.array([2, 0, 1, 1]), np.array([1.0, 0.5, 0.25, 3.0], np.float32)
    found = rotary_angles_by_axis(positions, frequencies, axes)
    assert found.dtype == np.float32
    assert found.shape == (3, 4)
    for t in range(3):
        for j in range(4):
            assert found[t, j] == positions[axes[j], t] * frequencies[j]
    in_rows = rotary_angles_by_axis(np.stack([positions, positions + 1], axis=1), frequencies, axes)
    np.testing.assert_array_equal(in_rows[0], found)
    np.testing.assert_array_equal(
        in_rows[1], rotary_angles_by_axis(positions + 1, frequencies, axes)
    )  # (axes, B, T) → (B, T, J)


def test_one_position_on_all_axes_is_ordinary_rotary_embedding() -> None:
    positions, frequencies = np.arange(90_000, 90_100), default_frequencies(K, THETA)
    for axes in (sections([2, 3, 3]), sections_in_turns([3, 3, 2], K // 2)):
        found = rotary_angles_by_axis(np.tile(positions, (3, 1)), frequencies, axes)
        np.testing.assert_array_equal(found, rotary_angles(positions, frequencies))


def test_only_both_distances_count() -> None:
    q, k = heads(1), heads(1)[:, ::-1]
    frequencies, axes = frequencies_in_turns(K, THETA), halves(K // 2)

    def product(row: int, column: int, by_row: int, by_column: int) -> np.ndarray:
        there = np.array([[row], [column]])
        other = np.array([[row - by_row], [column - by_column]])
        pair = rotated(q, there, frequencies, axes), rotated(k, other, frequencies, axes)
        return (pair[0] * pair[1]).sum(axis=-1)

    np.testing.assert_allclose(product(30, 40, 3, 5), product(9, 12, 3, 5), atol=1e-4)
    assert np.abs(product(30, 40, 3, 5) - product(30, 40, 5, 3)).min() > 1e-2


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (40, 2)])
@pytest.mark.parametrize("width", [16, 20, 64])
def test_as_pixtral_does(rows: int, columns: int, width: int) -> None:
    config = PixtralVisionConfig(
        hidden_size=2 * width,
        num_attention_heads=2,
        head_dim=width,
        rope_parameters={"rope_type": "axial", "rope_theta": THETA},
    )
    theirs = modeling_pixtral.PixtralVisionRotaryEmbedding(config)
    positions = grid_positions(rows, columns)
    tables = theirs(torch.zeros(1), torch.from_numpy(positions.T))
    frequencies, axes = frequencies_in_turns(width, THETA), halves(width // 2)
    np.testing.assert_array_equal(frequencies, theirs.inv_freq.numpy())
    x = heads(rows * columns, width)
    expected, _ = modeling_pixtral.apply_rotary_pos_emb(torch.from_numpy(x), torch.from_numpy(x), *tables, 0)
    close(rotated(x, positions, frequencies, axes), expected)


VISION_ROTATIONS = [
    (modeling_qwen2_vl.Qwen2VLVisionRotaryEmbedding, Qwen2VLVisionConfig, "embed_dim"),
    (
        modeling_qwen2_5_vl.Qwen2_5_VLVisionRotaryEmbedding,
        modeling_qwen2_5_vl.Qwen2_5_VLVisionConfig,
        "hidden_size",
    ),
    (modeling_qwen3_vl.Qwen3VLVisionRotaryEmbedding, modeling_qwen3_vl.Qwen3VLVisionConfig, "hidden_size"),
]


@pytest.mark.parametrize(("kind", "config_kind", "width"), VISION_ROTATIONS)
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 6), (38, 8)])
def test_as_qwens_encoders_do(kind: type, config_kind: type, width: str, rows: int, columns: int) -> None:
    """Their patches are numbered by squares of four; each is rotated by its own row and column."""
    config = config_kind(
        **{width: 2 * K}, num_heads=2, rope_parameters={"rope_type": "axial", "rope_theta": THETA}
    )
    config.num_attention_heads = 2
    theirs = kind(config)
    order = get_vision_position_ids(torch.tensor([[1, rows, columns]]), 2)  # (T, 2)
    x = heads(rows * columns)
    numbered = torch.from_numpy(x[:, :, (order[:, 0] * columns + order[:, 1]).numpy()])
    cos, sin = theirs(torch.zeros(1), order)
    seen = numbered[0].transpose(0, 1)  # (T, H, K)
    expected, _ = modeling_qwen2_vl.apply_rotary_pos_emb_vision(seen, seen, cos, sin)
    frequencies = frequencies_twice(K, THETA)
    np.testing.assert_array_equal(frequencies, np.tile(theirs.inv_freq.numpy(), 2))
    found = rotated(x, grid_positions(rows, columns), frequencies, halves(K // 2))
    close(found[0][:, (order[:, 0] * columns + order[:, 1]).numpy()], expected.transpose(0, 1))


@pytest.mark.parametrize("side", [1, 4, 24])
def test_as_llama4s_encoder_does(side: int) -> None:
    """Columns before rows, both counted from 1; the class vector, the last, is not rotated."""
    config = Llama4VisionConfig(
        hidden_size=2 * K,
        num_attention_heads=2,
        image_size=14 * side,
        patch_size=14,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
    )
    theirs = modeling_llama4.Llama4VisionRotaryEmbedding(config)
    x = heads(side * side + 1)
    seen = torch.from_numpy(x).transpose(1, 2)  # (B, T, H, K)
    expected, _ = modeling_llama4.vision_apply_rotary_emb(seen, seen, theirs(seen))
    by_column_and_row = 1 + grid_positions(side, side)[::-1]
    positions = np.concatenate([by_column_and_row, np.zeros((2, 1), int)], axis=1)
    found = rotated(x, positions, frequencies_twice(K, THETA), halves(K // 2), interleaved=True)
    close(found, expected.transpose(1, 2))
    np.testing.assert_array_equal(found[:, :, -1], x[:, :, -1])


LANGUAGE_ROTATIONS = [
    (modeling_qwen2_vl.Qwen2VLRotaryEmbedding, Qwen2VLConfig, False),
    (modeling_qwen2_5_vl.Qwen2_5_VLRotaryEmbedding, modeling_qwen2_5_vl.Qwen2_5_VLConfig, False),
    (modeling_qwen3_vl.Qwen3VLTextRotaryEmbedding, Qwen3VLConfig, True),
]


@pytest.mark.parametrize(("kind", "config_kind", "in_turns"), LANGUAGE_ROTATIONS)
@pytest.mark.parametrize("sizes", [[2, 3, 3], [4, 2, 2], [1, 6, 1], [8, 0, 0]])
def test_as_qwens_language_models_do(
    kind: type, config_kind: type, in_turns: bool, sizes: Sequence[int]
) -> None:
    given = {"rope_type": "default", "rope_theta": THETA, "mrope_section": list(sizes)}
    config = config_kind().get_text_config()
    config.hidden_size, config.num_attention_heads, config.head_dim = 2 * K, 2, K
    config.rope_parameters = given
    theirs = kind(config)
    positions = np.random.default_rng(0).integers(0, 5000, (3, 1, 9))
    tables = theirs(torch.zeros(1), torch.from_numpy(positions))
    x = heads(9)
    expected, _ = modeling_qwen2_vl.apply_rotary_pos_emb(torch.from_numpy(x), torch.from_numpy(x), *tables)
    axes = sections_in_turns(sizes, K // 2) if in_turns else sections(sizes)
    found = rotated(x, positions[:, 0], default_frequencies(K, THETA), axes)
    close(found, expected)


Text = list[int | tuple[int, int, int]]
"""A text: a number of tokens, or an image's grid of patches, one after the other."""

TEXTS: list[Text] = [
    [7],
    [2, (1, 4, 6), 3],
    [1, (1, 20, 4), 5, (1, 2, 2), 1, (1, 6, 30)],
    [(1, 4, 4), 2],
    [1, (2, 8, 6), 3],
]


def places_and_reference(text: Text) -> tuple[list, int, np.ndarray]:
    """The images' places, the number of tokens, and the positions that transformers gives them."""
    images, kinds, grids, first = [], [], [], 0
    for part in text:
        if isinstance(part, int):
            count = part
        else:
            t, h, w = part
            count = t * h * w // 4
            images.append((first, count, (t, h // 2, w // 2)))
            grids.append(part)
        kinds += [int(not isinstance(part, int))] * count
        first += count
    config = Qwen2VLConfig()
    model = modeling_qwen2_vl.Qwen2VLModel.__new__(modeling_qwen2_vl.Qwen2VLModel)
    torch.nn.Module.__init__(model)
    model.config = config
    expected, _ = model.get_rope_index(
        torch.zeros(1, first, dtype=torch.long), torch.tensor([kinds]), torch.tensor(grids) if grids else None
    )
    return images, first, expected[:, 0].numpy()


@pytest.mark.parametrize("text", TEXTS)
def test_positions_as_qwen2_vl_has_them(text: Text) -> None:
    """Also of a part of the text, as after a cache, and of one token in the answer."""
    images, length, expected = places_and_reference(text)
    found = positions_by_axis(np.arange(length), images)
    np.testing.assert_array_equal(found, expected)
    for start in range(length):
        part = np.arange(start, min(start + 5, length))
        np.testing.assert_array_equal(positions_by_axis(part, images), expected[:, part])
    answer = positions_by_axis(np.array([length + 10]), images)
    after = positions_by_axis(np.array([length]), images)
    np.testing.assert_array_equal(answer, after + 10)
    saved = sum(count - max(grid) for _, count, grid in images)
    np.testing.assert_array_equal(after, np.full((3, 1), length - saved))


def test_the_picture_in_the_essay() -> None:
    found = positions_by_axis(np.arange(10), [(2, 6, (1, 2, 3))])
    assert found.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
