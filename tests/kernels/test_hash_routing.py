"""Experts looked up by token, and those of the best scores, against the formula in plain Python."""

import numpy as np

from tinystar_np.kernels.activations import sqrt_softplus
from tinystar_np.kernels.experts import mixture
from tinystar_np.kernels.hash_routing import scored_top_k, scores_of_chosen, with_each_once


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def test_weights() -> None:
    logits, chosen = (
        normal(9, 5),
        np.random.default_rng(0).permuted(np.tile(np.arange(5), (9, 1)), axis=1)[:, :3],
    )
    found = scores_of_chosen(logits, chosen, score=sqrt_softplus, factor=1.5)
    for t in range(9):
        scores = [np.log1p(np.exp(logits[t, e])) ** 0.5 for e in chosen[t]]
        np.testing.assert_allclose(found[t], 1.5 * np.array(scores) / sum(scores), rtol=1e-5)
    assert found.dtype == np.float32


def test_the_correction_chooses_and_does_not_weigh() -> None:
    logits, correction = normal(9, 5), normal(5)
    chosen, weights = scored_top_k(logits, 2, correction=correction, score=sqrt_softplus, factor=1.0)
    corrected = sqrt_softplus(logits) + correction
    for t in range(9):
        assert chosen[t].tolist() == sorted(range(5), key=lambda e: -corrected[t, e])[:2]
    expected = scores_of_chosen(logits, chosen, score=sqrt_softplus, factor=1.0)
    np.testing.assert_array_equal(weights, expected)


def test_an_expert_named_twice_counts_twice() -> None:
    table = np.array([[0, 1, 2], [3, 3, 0], [2, 2, 2]])
    once, times = with_each_once(table, 4)
    assert times is not None
    logits, x = normal(3, 4), normal(3, 6)
    experts = [lambda x, e=e: (e + 1) * x for e in range(4)]
    weights = scores_of_chosen(logits, once, score=sqrt_softplus, factor=1.0, times=times)
    found = mixture(x, once, weights, experts)
    for t in range(3):
        assert len({*once[t].tolist()}) == 3
        scores = [np.log1p(np.exp(logits[t, e])) ** 0.5 for e in table[t]]
        factor = sum(s * (e + 1) for s, e in zip(scores, table[t], strict=True)) / sum(scores)
        np.testing.assert_allclose(found[t], factor * x[t], rtol=1e-5)
