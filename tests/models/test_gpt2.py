"""GPT-2's own: every activation there is, element types of files, shards."""

from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, logits_of

from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.loading import load


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 211, (3, 90))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation(name: str, save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2(activation_function=name)
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference, ids))


def test_every_parameter_free_activation_of_transformers_is_here() -> None:
    from transformers.activations import ACT2CLS

    assert set(ACT2CLS) - set(ACTIVATIONS) == {"prelu", "xielu"}  # these two have weights of their own


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_element_types(dtype: torch.dtype, save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2()
    reference.to(dtype).save_pretrained(directory)
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference.float(), ids))


def test_shards(save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2()
    (directory / "model.safetensors").unlink()
    reference.save_pretrained(directory, max_shard_size="100KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference, ids))
