"""Routing against torch, the two forms of a mixture against each other, and which experts a layer touches."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tinystar_np.layers_old import Linear, Weights
from tinystar_np.layers_old.experts import Experts, RoutedAndShared

from tinystar_np.kernels.activations import silu
from tinystar_np.kernels.experts import (
    grouped_mixture,
    mixture,
    sigmoid_top_k,
    softmax_top_k,
    softmax_top_k_normed,
    top_k,
    top_k_softmax,
)
from tinystar_np.tap import listen

D, F, E = 6, 5, 7


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("k", [1, 2, E])
@pytest.mark.parametrize("shape", [(1, E), (50, E), (2, 9, E)])
def test_routing(shape: tuple[int, ...], k: int) -> None:
    logits = random(*shape)
    best, places = torch.from_numpy(logits).double().topk(k)
    chosen, weights = top_k_softmax(logits, k)
    np.testing.assert_array_equal(chosen, places)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, best.softmax(-1), rtol=1e-6)


def test_the_softmax_over_all_scaled_to_sum_to_one_is_the_same() -> None:
    logits = random(30, E)
    chosen, weights = top_k_softmax(logits, 3)
    over_all = np.take_along_axis(np.exp(logits), chosen, axis=-1)
    np.testing.assert_allclose(weights, over_all / over_all.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, E])
def test_the_softmax_over_all_as_it_is(k: int) -> None:
    logits = 5 * random(30, E)
    best, places = torch.from_numpy(logits).double().softmax(-1).topk(k)
    chosen, weights = softmax_top_k(logits, k)
    np.testing.assert_array_equal(chosen, places)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, best, rtol=1e-5)
    assert (weights.sum(-1) < 0.999).any() == (k < E)


@pytest.mark.parametrize("k", [1, 3, E])
def test_sigmoids(k: int) -> None:
    logits = 5 * random(30, E)
    best, places = torch.from_numpy(logits).topk(k)
    chosen, weights = sigmoid_top_k(logits, k)
    np.testing.assert_array_equal(chosen, places)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, best.double().sigmoid(), rtol=1e-6)
    # Both sigmoids are 1 in float32; the scores still tell which is the best.
    assert sigmoid_top_k(np.array([30, 40], dtype=np.float32), 1)[0] == [1]


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("k", [1, 3, E])
def test_the_softmax_over_all_scaled_by_a_norm(k: int, p: float) -> None:
    logits = 5 * random(30, E)
    best, places = torch.from_numpy(logits).double().softmax(-1).topk(k)
    chosen, weights = softmax_top_k_normed(logits, k, p)
    np.testing.assert_array_equal(chosen, places)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, best / torch.norm(best, p=p, dim=-1, keepdim=True), rtol=1e-5)


def test_ties_go_to_the_first() -> None:
    np.testing.assert_array_equal(top_k(np.array([[1, 3, 2, 3, 3, 0]], dtype=np.float32), 4), [[1, 3, 4, 2]])


class CountedExpert:
    """An expert of its own kind that knows how often it was called."""

    def __init__(self, e: int) -> None:
        self.matrix = random(D, D, seed=e + 1)
        self.calls = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.tanh(x @ self.matrix)


@pytest.mark.parametrize("k", [1, 3, E])
@pytest.mark.parametrize("tokens", [1, 2, 40])
@pytest.mark.parametrize("uneven", [0, 20])  # 20: the same few experts for all tokens
@pytest.mark.parametrize("weigh_inputs", [False, True])
def test_both_forms_give_the_sum(weigh_inputs: bool, tokens: int, k: int, uneven: float) -> None:
    x = random(tokens, D)
    experts = [CountedExpert(e) for e in range(E)]
    chosen, weights = top_k_softmax(random(tokens, E) + uneven * random(E), k)
    matrices = np.stack([expert.matrix for expert in experts]).astype(np.float64)
    expected = np.zeros((tokens, D))
    for j in range(k):
        heard = np.einsum("td,tdf->tf", x, matrices[chosen[:, j]])
        weight = weights[:, j, None]
        expected += np.tanh(weight * heard) if weigh_inputs else weight * np.tanh(heard)

    before = x.copy(), chosen.copy(), weights.copy()
    plain = mixture(x, chosen, weights, experts, weigh_inputs)
    assert sum(expert.calls for expert in experts) == tokens * k
    for expert in experts:
        expert.calls = 0
    grouped = grouped_mixture(x, chosen, weights, experts, weigh_inputs)
    assert [expert.calls for expert in experts] == [int((chosen == e).any()) for e in range(E)]
    for found in (plain, grouped):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for now, then in zip((x, chosen, weights), before, strict=True):
        np.testing.assert_array_equal(now, then)


def layer_weights() -> dict[str, np.ndarray]:
    arrays = {"router.weight": random(D, E)}
    for e in range(E):
        arrays[f"experts.{e}.gate_up.weight"] = random(D, 2 * F, seed=e)
        arrays[f"experts.{e}.down.weight"] = random(F, D, seed=e)
    return arrays


def layer(arrays: dict[str, np.ndarray], k: int = 2) -> Experts:
    return Experts(Weights(arrays), experts=E, per_token=k, routing=top_k_softmax, activation=silu)


def test_one_token_touches_its_own_experts_only() -> None:
    x = random(1, 1, D)
    arrays = layer_weights()
    expected = layer(arrays)(x)
    chosen = top_k(x[0] @ arrays["router.weight"], 2)[0]
    for name, array in arrays.items():
        if name.startswith("experts.") and int(name.split(".")[1]) not in chosen:
            array[:] = np.nan
    np.testing.assert_array_equal(layer(arrays)(x), expected)
    arrays[f"experts.{chosen[1]}.down.weight"][:] = np.nan
    assert np.isnan(layer(arrays)(x)).all()


def test_every_token_is_mapped_by_itself() -> None:
    x = random(3, 11, D)
    experts = layer(layer_weights(), k=3)
    alone = np.stack([[experts(token[None, None])[0, 0] for token in row] for row in x])
    np.testing.assert_allclose(experts(x), alone, rtol=0, atol=1e-6 * np.abs(alone).max())


class Listener:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.arrays: dict[str, np.ndarray] = {}

    def catch(self, name: str, x: np.ndarray) -> np.ndarray:
        self.heard[name] += 1
        self.arrays[name] = x.copy()
        return x

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        yield


def test_taps_are_heard_once() -> None:
    x = random(2, 9, D)
    experts = layer(layer_weights())
    shared: Callable[[np.ndarray], np.ndarray] = np.tanh
    silent = RoutedAndShared(routed=experts, shared=shared)(x)
    with listen(Listener()) as listener:
        heard = RoutedAndShared(routed=experts, shared=shared)(x)
    np.testing.assert_array_equal(heard, silent)
    assert isinstance(listener, Listener)
    assert {name: array.shape for name, array in listener.arrays.items()} == {
        "feed_forward.router": (2, 9, E),
        "feed_forward.chosen": (2, 9, 2),
        "feed_forward.weights": (2, 9, 2),
        "feed_forward.experts": (2, 9, D),
        "feed_forward.out": (2, 9, D),
    }
    assert set(listener.heard.values()) == {1}
    np.testing.assert_array_equal(listener.arrays["feed_forward.out"], silent)
    np.testing.assert_allclose(silent, listener.arrays["feed_forward.experts"] + np.tanh(x), rtol=1e-6)


def test_a_gate_for_the_shared_layer() -> None:
    x = random(2, 9, D)
    experts = layer(layer_weights())
    gate = random(D, 1)
    shared: Callable[[np.ndarray], np.ndarray] = np.tanh
    gated = RoutedAndShared(routed=experts, shared=shared, gate=Linear(Weights({"weight": gate})))
    with listen(Listener()) as listener:
        found = gated(x)
    assert isinstance(listener, Listener)
    opened = 1 / (1 + np.exp(-(x @ gate)))
    np.testing.assert_allclose(listener.arrays["feed_forward.shared_gate"], x @ gate, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, experts(x) + opened * np.tanh(x), rtol=1e-5, atol=1e-6)


def test_gates_and_ups_in_one_matrix_or_two() -> None:
    x = random(2, 9, D)
    together = layer_weights()
    apart = {name: array for name, array in together.items() if "gate_up" not in name}
    for e in range(E):
        gate, up = np.split(together[f"experts.{e}.gate_up.weight"], 2, axis=1)
        apart |= {f"experts.{e}.gate.weight": gate, f"experts.{e}.up.weight": up}
    np.testing.assert_allclose(layer(apart)(x), layer(together)(x), rtol=1e-5, atol=1e-6)
