"""Small matrices as one: the same numbers, one product, and nothing where it brings nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import check, edit_config, reference_model, save

from tinystar_np.layers_old import Linear, Weights
from tinystar_np.layers_old.linear import joined
from tinystar_np.loading import load
from tinystar_np.weights import side_by_side as module
from tinystar_np.weights.side_by_side import LEAST_IN_THREADS, side_by_side

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


def matrices(*widths: int, inputs: int = 768) -> dict[str, np.ndarray]:
    """Queries, keys and values of one layer, as most files have them: transposed."""
    numbers = np.random.default_rng(0)
    names = [f"blocks.0.attention.{letter}.weight" for letter in "qkv"]
    arrays = [numbers.standard_normal((width, inputs), np.float32).T for width in widths]
    return dict(zip(names, arrays, strict=True))


def linears(weights: dict[str, Any], biased: str = "") -> list[Linear]:
    return [
        Linear(Weights({"weight": weight} | ({"bias": weight[0].copy()} if name[-8] in biased else {})))
        for name, weight in weights.items()
    ]


@pytest.mark.parametrize(
    ("widths", "worth_it"),
    [
        ((300, 150, 150), True),  # small ones, together as many as the threshold
        ((300, 150, 149), False),  # one row fewer
        ((600, 150, 150), False),  # half as much again in a large one
        ((599, 100, 100), True),
        ((700, 350, 350), True),
        ((800, 800, 800), False),
    ],
)
def test_when(widths: tuple[int, ...], worth_it: bool) -> None:
    assert LEAST_IN_THREADS == 600 * 768
    weights = matrices(*widths)
    laid = side_by_side(weights)
    assert [laid[name] is not weights[name] for name in weights] == [worth_it] * 3
    together = joined(linears(laid))
    assert (together is not None) == worth_it
    for name, matrix in weights.items():
        np.testing.assert_array_equal(laid[name], matrix)
    x = np.random.default_rng(1).standard_normal((2, 3, 768), np.float32)
    if together is not None:
        for found, linear in zip(together(x), linears(weights), strict=True):
            np.testing.assert_allclose(found, linear(x), rtol=0, atol=2e-4)
            assert found.dtype == np.float32


def test_biases() -> None:
    laid = side_by_side(matrices(300, 150, 150))
    x = np.ones((1, 1, 768), np.float32)
    layers = linears(laid, biased="qkv")
    together = joined(layers)
    assert together is not None
    for found, linear in zip(together(x), layers, strict=True):
        np.testing.assert_allclose(found, linear(x), rtol=0, atol=1e-3)
    assert joined(linears(laid, biased="qk")) is None


def test_a_layer_that_is_given_other_weights() -> None:
    x = np.ones((1, 1, 768), np.float32)
    layers = linears(side_by_side(matrices(300, 150, 150)))
    together = joined(layers)
    assert together is not None
    layers[1].weight = layers[1].weight * np.float32(2)
    for found, linear in zip(together(x), layers, strict=True):
        np.testing.assert_array_equal(found, linear(x))
    layers[2].bias = np.ones(150, np.float32)
    np.testing.assert_array_equal(together(x)[2], layers[2](x))


def test_what_only_looks_alike() -> None:
    """Parts of one array that are not all of it, in another order, or of another matrix."""
    q, k, v = linears(side_by_side(matrices(300, 150, 150)))
    assert joined([q, k, v]) is not None
    for others in ([q, v, k], [q, k], [k, v], [q, k, k]):
        assert joined(others) is None
    copied = Linear(Weights({"weight": v.weight.copy()}))
    assert joined([q, k, copied]) is None


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "olmo2"])
def test_models(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_IN_THREADS", 3500)
    reference = reference_model(kind, **SMALL)
    model = check(reference, save(reference, tmp_path), length=40, cuts=([16, 24], [1, 38, 1]))
    layers = [layer for block in model.blocks for layer in (block.attention, block.feed_forward)]
    assert all(layer.joined is not None for layer in layers)
    assert model.parameters == sum(p.numel() for p in set(reference.parameters()))


def test_converted_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of another type, whose matrices lie in memory already."""
    monkeypatch.setattr(module, "LEAST_IN_THREADS", 3500)
    reference = reference_model("llama", **SMALL).half()
    save(reference, tmp_path)
    edit_config(tmp_path, dtype="float16")
    assert load(tmp_path)[0].blocks[0].attention.joined is not None
    assert load(tmp_path, dtype="int8")[0].blocks[0].attention.joined is None
