"""The orders in which neighbouring vectors are merged, bit for bit as the connectors of transformers do."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import Idefics3Config, Mistral3Config, SmolVLMConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.llama4 import modeling_llama4
from transformers.models.mistral3.modeling_mistral3 import Mistral3PatchMerger
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector
from transformers.vision_utils import get_vision_position_ids

from tinystar_np.kernels.pixel_shuffle import pixel_shuffle, pixel_shuffle_by_channel


def grid(rows: int, columns: int, width: int = 5, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((batch, rows, columns, width), dtype=np.float32)


@pytest.mark.parametrize(("side", "factor"), [(4, 2), (6, 3), (8, 4), (3, 1)])
def test_idefics3_and_smolvlm(side: int, factor: int) -> None:
    x = grid(side, side)
    patches = torch.from_numpy(x.reshape(2, side * side, 5))
    found = pixel_shuffle(x, factor).reshape(2, -1, factor * factor * 5)
    for kind, config in ((Idefics3Connector, Idefics3Config()), (SmolVLMConnector, SmolVLMConfig())):
        config.text_config.hidden_size = config.vision_config.hidden_size = 8
        np.testing.assert_array_equal(found, kind(config).pixel_shuffle(patches, factor).numpy())


@pytest.mark.parametrize(("side", "factor"), [(4, 2), (8, 2), (8, 4)])
def test_llama4(side: int, factor: int) -> None:
    x = grid(side, side, width=4)
    expected = modeling_llama4.pixel_shuffle(torch.from_numpy(x.reshape(2, side * side, 4)), 1 / factor)
    np.testing.assert_array_equal(pixel_shuffle(x, factor).reshape(expected.shape), expected.numpy())


@pytest.mark.parametrize(("rows", "columns", "merge"), [(4, 6, 2), (2, 2, 2), (9, 3, 3)])
def test_qwen_merges_what_follows_each_other(rows: int, columns: int, merge: int) -> None:
    """Its patches are numbered by squares; the merger takes each merge² of them in that order."""
    x = grid(rows, columns, batch=1)
    order = get_vision_position_ids(torch.tensor([[1, rows, columns]]), merge).numpy()  # (T, 2)
    in_squares = x[0, order[:, 0], order[:, 1]]
    found = pixel_shuffle(x, merge)
    np.testing.assert_array_equal(found.reshape(-1, merge * merge * 5), in_squares.reshape(-1, merge**2 * 5))


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (2, 2), (6, 2)])
def test_mistral3(rows: int, columns: int) -> None:
    config = Mistral3Config()
    config.vision_config.hidden_size = 5
    merger = Mistral3PatchMerger(config)
    merger.merging_layer = torch.nn.Identity()
    x = grid(rows, columns, batch=1)
    p = config.vision_config.patch_size
    expected = merger(torch.from_numpy(x.reshape(-1, 5)), [(rows * p, columns * p)])
    found = pixel_shuffle_by_channel(x, config.spatial_merge_size)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected.numpy())


@pytest.mark.parametrize("shuffle", [pixel_shuffle, pixel_shuffle_by_channel])
def test_any_leading_axes_and_a_new_array(shuffle: Callable[[np.ndarray, int], np.ndarray]) -> None:
    x = grid(4, 2)
    found = shuffle(x, 2)
    assert found.shape == (2, 2, 1, 20)
    np.testing.assert_array_equal(shuffle(x[0], 2), found[0])
    assert not np.shares_memory(shuffle(x, 1), x)
    np.testing.assert_array_equal(shuffle(x, 1), x)
