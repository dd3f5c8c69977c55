"""The element types of weights: what "auto", "float32", "bfloat16" and "int8" keep, and what they compute."""

from typing import Any

import numpy as np
import pytest
import torch

from tinystar_np.kernels.int8 import dequantise, quantise
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load

IDS = np.random.default_rng(1).integers(0, 211, (2, 70))


def logits_of(reference: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        return reference(torch.from_numpy(IDS)).logits.numpy()


def kept(model: Any) -> set[type]:
    layers = [layer for block in model.blocks for layer in (block.attention.qkv, block.feed_forward.down)]
    return {type(layer.weight) for layer in [*layers, model.head, model.embedding]}


@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16_computes_with_the_rounded_weights(tied: bool, save_gpt2: Any) -> None:
    reference, directory = save_gpt2(tie_word_embeddings=tied)
    model, _ = load(directory, dtype="bfloat16")
    assert kept(model) == {Bfloat16Matrix}
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim == 2:
                parameter.copy_(parameter.bfloat16())
    expected = logits_of(reference)
    assert np.abs(model(IDS) - expected).max() < 1e-5 * np.abs(expected).max()


def test_auto_keeps_a_bfloat16_file_mapped(save_gpt2: Any) -> None:
    reference, directory = save_gpt2()
    reference.bfloat16().save_pretrained(directory)
    model, _ = load(directory)
    assert kept(model) == {Bfloat16Matrix}
    bits = model.blocks[0].attention.qkv.weight.stored
    assert not bits.flags.writeable
    assert not bits.flags.owndata
    expected = logits_of(reference.float())
    for dtype in ("auto", "float32", "bfloat16"):
        model, _ = load(directory, dtype=dtype)
        assert np.abs(model(IDS) - expected).max() < 1e-5 * np.abs(expected).max()
    assert kept(load(directory, dtype="float32")[0]) <= {np.ndarray, np.memmap}


@pytest.mark.parametrize("tied", [True, False])
def test_int8_computes_with_the_rounded_weights(tied: bool, save_gpt2: Any) -> None:
    reference, directory = save_gpt2(tie_word_embeddings=tied)
    model, _ = load(directory, dtype="int8")
    assert kept(model) == {Int8Matrix}
    exact = logits_of(reference)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if parameter.ndim == 2:
                # Tables and the output layer have a scale per row; the others are (in, out).
                matrix = parameter.numpy()
                turned = "wte" in name or "wpe" in name or "lm_head" in name
                rounded = dequantise(*quantise(matrix)) if turned else dequantise(*quantise(matrix.T)).T
                parameter.copy_(torch.from_numpy(rounded))
    expected = logits_of(reference)
    assert np.abs(model(IDS) - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(model(IDS) - exact).max() > 1e-3 * np.abs(exact).max()
    cache = model.new_cache(2)
    pieces = [
        model(IDS[:, :33], cache=cache),
        model(IDS[:, 33:34], cache=cache),
        model(IDS[:, 34:], cache=cache),
    ]
    whole = model(IDS)
    assert np.abs(np.concatenate(pieces, axis=1) - whole).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.5), ("int8", 0.26)])
def test_memory(dtype: str, share: float, save_gpt2: Any) -> None:
    _, directory = save_gpt2(n_embd=256, vocab_size=400)
    full, narrow = load(directory)[0], load(directory, dtype=dtype)[0]
    for layer in (
        lambda m: m.embedding,
        lambda m: m.blocks[1].attention.qkv,
        lambda m: m.blocks[2].feed_forward.up,
    ):
        assert layer(narrow).weight.nbytes <= share * layer(full).weight.nbytes
    assert narrow.parameters == full.parameters
