"""Routing to groups of experts, against sentences of the definition, token by token in plain Python."""

from collections.abc import Iterator

import numpy as np
import pytest

from tinystar_np.kernels.experts import (
    group_limited_top_k,
    sigmoid_grouped_top_k,
    softmax_corrected_top_k,
    softmax_grouped_top_k,
)

E, GROUPS = 12, 4
LOGITS = np.random.default_rng(3).standard_normal((2, 30, E), dtype=np.float32)
CORRECTION = np.random.default_rng(4).standard_normal(E, dtype=np.float32)


def of_best_groups(scores: list[float], counted: int, kept: int) -> list[int]:
    """Return the experts of the best groups, a group being as good as its ``counted`` best together."""
    size = E // GROUPS
    groups = [range(g * size, (g + 1) * size) for g in range(GROUPS)]
    groups.sort(key=lambda group: -sum(sorted((scores[e] for e in group), reverse=True)[:counted]))
    return [e for group in groups[:kept] for e in group]


def rows(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Walk through the tokens."""
    return zip(*(array.reshape(-1, array.shape[-1]) for array in arrays), strict=True)


@pytest.mark.parametrize("kept", [1, 2, GROUPS])
@pytest.mark.parametrize("k", [1, 3])
def test_group_limited(k: int, kept: int) -> None:
    chosen, weights = group_limited_top_k(LOGITS, k, groups=GROUPS, kept=kept, factor=2.5)
    assert weights.dtype == np.float32
    for row, places, found in rows(LOGITS, chosen, weights):
        scores = (np.exp(row.astype(float)) / np.exp(row.astype(float)).sum()).tolist()
        best = sorted(of_best_groups(scores, 1, kept), key=lambda e: -scores[e])[:k]
        assert places.tolist() == best
        np.testing.assert_allclose(found, [2.5 * scores[e] for e in best], rtol=1e-5)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("kept", [1, 2, GROUPS])
@pytest.mark.parametrize("k", [1, 3])
def test_sigmoid_grouped(k: int, kept: int, normed: bool) -> None:
    chosen, weights = sigmoid_grouped_top_k(
        LOGITS, k, correction=CORRECTION, groups=GROUPS, kept=kept, normed=normed, factor=1.5
    )
    assert weights.dtype == np.float32
    for row, places, found in rows(LOGITS, chosen, weights):
        scores = (1 / (1 + np.exp(-row.astype(float)))).tolist()
        liked = [score + more for score, more in zip(scores, CORRECTION.tolist(), strict=True)]
        best = sorted(of_best_groups(liked, 2, kept), key=lambda e: -liked[e])[:k]
        assert places.tolist() == best
        total = sum(scores[e] for e in best) if normed else 1
        np.testing.assert_allclose(found, [1.5 * scores[e] / total for e in best], rtol=1e-5)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("kept", [1, 2, GROUPS])
@pytest.mark.parametrize("k", [1, 3])
def test_softmax_grouped(k: int, kept: int, normed: bool) -> None:
    chosen, weights = softmax_grouped_top_k(LOGITS, k, groups=GROUPS, kept=kept, normed=normed, factor=1.5)
    assert weights.dtype == np.float32
    for row, places, found in rows(LOGITS, chosen, weights):
        scores = (np.exp(row.astype(float)) / np.exp(row.astype(float)).sum()).tolist()
        best = sorted(of_best_groups(scores, 2, kept), key=lambda e: -scores[e])[:k]
        assert places.tolist() == best
        total = sum(scores[e] for e in best) if normed else 1
        np.testing.assert_allclose(found, [1.5 * scores[e] / total for e in best], rtol=1e-5)


def test_softmax_corrected() -> None:
    chosen, weights = softmax_corrected_top_k(LOGITS, 3, correction=CORRECTION, factor=1.5)
    assert weights.dtype == np.float32
    for row, places, found in rows(LOGITS, chosen, weights):
        scores = (np.exp(row.astype(float)) / np.exp(row.astype(float)).sum()).tolist()
        liked = [score + more for score, more in zip(scores, CORRECTION.tolist(), strict=True)]
        best = sorted(range(E), key=lambda e: -liked[e])[:3]
        assert places.tolist() == best
        np.testing.assert_allclose(found, [1.5 * scores[e] for e in best], rtol=1e-5)


def test_a_correction_below_minus_one_leaves_no_hole() -> None:
    """Corrected scores may be negative; all outside the best groups is below them even so."""
    chosen, _ = sigmoid_grouped_top_k(
        LOGITS, 3, correction=np.full(E, -5, dtype=np.float32), groups=GROUPS, kept=1
    )
    assert ((chosen // 3) == chosen[..., :1] // 3).all()


def test_small_sigmoids_are_exact() -> None:
    """By the tanh identity a score of 1e-9 would be 0, and scaled to sum to 1 nothing would be left."""
    logits = np.array([[-20.0, -21.0, -22.0, -200.0]], dtype=np.float32)
    _, weights = sigmoid_grouped_top_k(logits, 2, correction=np.zeros(4, dtype=np.float32))
    np.testing.assert_allclose(weights, [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]], rtol=1e-5)
