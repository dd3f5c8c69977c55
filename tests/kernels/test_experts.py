"""Routing against torch, and the two forms of a mixture against each other."""

import numpy as np
import pytest
import torch

from tinystar_np.kernels.experts import (
    grouped_mixture,
    mixture,
    sigmoid_top_k,
    softmax_corrected_top_k,
    softmax_top_k,
    softmax_top_k_normed,
    top_k,
    top_k_softmax,
)

D, E = 6, 7


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


@pytest.mark.parametrize("least", [1e-12, 0.7])
@pytest.mark.parametrize("k", [1, 3, E])
def test_a_correction_chooses_and_does_not_weigh(k: int, least: float) -> None:
    logits, correction = 3 * random(30, E), random(E, seed=1)
    scores = torch.from_numpy(logits).double().softmax(-1)
    places = (scores + torch.from_numpy(correction)).topk(k).indices
    chosen, weights = softmax_corrected_top_k(logits, k, correction=correction, least=least)
    np.testing.assert_array_equal(chosen, places)
    assert weights.dtype == np.float32
    best = scores.gather(-1, places)
    sums = best.sum(-1, keepdim=True)
    np.testing.assert_allclose(weights, best / sums.clamp(min=least), rtol=1e-5)
    assert (sums < 0.7).any() == (k < E)
    assert (chosen != softmax_top_k(logits, k)[0]).any()


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
