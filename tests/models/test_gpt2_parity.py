"""GPT-2 against transformers: every switch, cached and not, whole and in pieces, single and batched."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.loading import load

TOLERANCE = 1e-5  # of the largest logit; the project promises 1e-4
# Unscaled scores are large, and softmax magnifies their rounding: held against float64, transformers' own
# logits are off by 8e-6 there, ours by 6e-6.
UNSCALED_TOLERANCE = 2e-5

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_scale": {"scale_attn_weights": False},
    "inverse_layer": {"scale_attn_by_inverse_layer_idx": True},
    "no_scale_inverse_layer": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "upcast": {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    "narrow": {"n_inner": 40},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "untied": {"tie_word_embeddings": False},
    "one_head": {"n_head": 1},
    "wide_heads": {"n_head": 2, "n_embd": 64},
}


def logits_of(reference: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return reference(torch.from_numpy(np.atleast_2d(ids))).logits.numpy()


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 211, (3, 90))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits(variant: str, save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2(**VARIANTS[variant])
    model, tokenizer = load(directory, dtype="float32")
    assert tokenizer is None
    expected = logits_of(reference, ids)
    tolerance = UNSCALED_TOLERANCE if variant.startswith("no_scale") else TOLERANCE

    assert_close(model(ids), expected, tolerance)
    assert_close(model(ids, last_only=True), expected[:, -1:], tolerance)
    assert_close(model(ids[0]), expected[0], tolerance)
    assert_close(model(ids[0], last_only=True), expected[0, -1:], tolerance)

    for cuts in ([1] * 90, [1, 2, 63, 1, 23], [64, 26], [65, 1, 24], [89, 1]):
        cache = model.new_cache(batch_size=3)
        starts = np.cumsum([0, *cuts])
        pieces = [model(ids[:, a:b], cache=cache) for a, b in pairwise(starts)]
        assert_close(np.concatenate(pieces, axis=1), expected, tolerance)
        assert cache.lengths.tolist() == [90] * 3


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation(name: str, save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2(activation_function=name)
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference, ids))


def test_every_parameter_free_activation_of_transformers_is_here() -> None:
    from transformers.activations import ACT2CLS

    assert set(ACT2CLS) - set(ACTIVATIONS) == {"prelu", "xielu"}  # these two have weights of their own


def test_greedy_ids_are_those_of_transformers(save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2()
    model, _ = load(directory)
    expected = reference.generate(
        torch.from_numpy(ids[:1, :40]), max_new_tokens=50, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, 40:].tolist()
    cache = model.new_cache(capacity=50)
    new = [int(model(ids[0, :40], cache=cache, last_only=True).argmax())]
    while len(new) < 50:
        new.append(int(model(new[-1:], cache=cache).argmax()))
    assert new == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_element_types(dtype: torch.dtype, save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2()
    reference.to(dtype).save_pretrained(directory)
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference.float(), ids))


def test_old_files_of_the_hub(save_gpt2: Any, ids: np.ndarray) -> None:
    """Names without prefix, mask buffers among them, and a config from before transformers 4."""
    reference, directory = save_gpt2()
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(directory / "model.safetensors").items()
        if name != "lm_head.weight"
    }
    assert "wte.weight" in tensors
    for i in range(3):
        tensors[f"h.{i}.attn.bias"] = torch.ones(96, 96).tril().reshape(1, 1, 96, 96)
        tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, directory / "model.safetensors")
    config = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 0,
        "embd_pdrop": 0.1,
        "eos_token_id": 0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 96,
        "n_embd": 48,
        "n_head": 4,
        "n_layer": 3,
        "n_positions": 96,
        "resid_pdrop": 0.1,
        "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": 211,
    }
    (directory / "config.json").write_text(json.dumps(config))
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference, ids))


def test_tied_output_layer_that_is_also_in_the_file(save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2()
    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, directory / "model.safetensors")
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference, ids))


def test_shards(save_gpt2: Any, ids: np.ndarray) -> None:
    reference, directory = save_gpt2()
    (directory / "model.safetensors").unlink()
    reference.save_pretrained(directory, max_shard_size="100KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    model, _ = load(directory)
    assert_close(model(ids), logits_of(reference, ids))
