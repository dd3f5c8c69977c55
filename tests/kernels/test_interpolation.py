"""Resized tables of positions against torch, and against the models of transformers that use them."""

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, SiglipVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings
from transformers.models.siglip.modeling_siglip import SiglipVisionEmbeddings
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from tinystar_np.kernels.interpolation import interpolated, interpolation_weights

GRIDS = [
    ((7, 7), (7, 7)),
    ((7, 7), (9, 12)),
    ((4, 6), (1, 1)),
    ((1, 1), (3, 2)),
    ((2, 3), (11, 5)),
    ((24, 24), (13, 40)),
    ((16, 16), (15, 1)),
]

TOLERANCE = 3e-6  # of numbers around 1


def table(rows: int, columns: int, width: int = 5) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, columns, width), dtype=np.float32)


@pytest.mark.parametrize(("old", "new"), GRIDS)
@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize("corners_meet", [True, False])
def test_as_torch_does(old: tuple[int, int], new: tuple[int, int], cubic: bool, corners_meet: bool) -> None:
    given = table(*old)
    before = given.copy()
    found = interpolated(given, *new, cubic=cubic, corners_meet=corners_meet)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(given).permute(2, 0, 1)[None],
        size=new,
        mode="bicubic" if cubic else "bilinear",
        align_corners=corners_meet,
    )[0].permute(1, 2, 0)
    assert found.dtype == np.float32
    assert found.shape == (*new, 5)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize("corners_meet", [True, False])
def test_weights_sum_to_one_and_the_same_grid_stays(cubic: bool, corners_meet: bool) -> None:
    for old, new in ((1, 1), (1, 5), (5, 1), (6, 6), (3, 17), (40, 7)):
        weights = interpolation_weights(old, new, cubic=cubic, corners_meet=corners_meet)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    given = table(6, 9)
    np.testing.assert_array_equal(interpolated(given, 6, 9, cubic=cubic, corners_meet=corners_meet), given)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (20, 4), (9, 31)])
def test_as_siglip_does(height: int, width: int) -> None:
    config = SiglipVisionConfig(hidden_size=6, image_size=12, patch_size=2)
    theirs = SiglipVisionEmbeddings(config)
    torch.nn.init.normal_(theirs.position_embedding.weight)
    rows, columns = height // 2, width // 2
    learned = theirs.position_embedding.weight.detach().numpy().reshape(6, 6, 6)
    expected = theirs.interpolate_pos_encoding(torch.zeros(1, rows * columns, 6), height, width)
    found = interpolated(learned, rows, columns).reshape(1, -1, 6)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=TOLERANCE)


def test_as_clip_does() -> None:
    """The first vector is the class's and stays as it is."""
    config = CLIPVisionConfig(hidden_size=6, num_attention_heads=2, image_size=12, patch_size=2)
    theirs = CLIPVisionEmbeddings(config)
    torch.nn.init.normal_(theirs.position_embedding.weight)
    learned = theirs.position_embedding.weight.detach().numpy()
    expected = theirs.interpolate_pos_encoding(torch.zeros(1, 1 + 5 * 9, 6), 10, 18).detach().numpy()
    found = interpolated(learned[1:].reshape(6, 6, 6), 5, 9).reshape(-1, 6)
    np.testing.assert_allclose(np.concatenate([learned[:1], found])[None], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (2, 2), (30, 8), (1, 5)])
def test_as_qwen3_vl_does(rows: int, columns: int) -> None:
    learned = table(8, 8)
    places, weights = get_vision_interpolation_indices_and_weights(
        torch.tensor([[1, rows, columns]]), 8, mode="bilinear", align_corners=True
    )
    flat = torch.from_numpy(learned.reshape(64, 5))
    expected = (flat[places] * weights[:, :, None]).sum(1).numpy().reshape(rows, columns, 5)
    found = interpolated(learned, rows, columns, cubic=False, corners_meet=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
