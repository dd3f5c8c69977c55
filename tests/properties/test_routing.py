"""Routers: k different experts, weights that sum to what each rule says, the best first."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_models import FIXED

from tinystar_np.kernels.experts import (
    group_limited_top_k,
    sigmoid_grouped_top_k,
    softmax_top_k,
    softmax_top_k_normed,
    top_k_softmax,
)

E = 12
rows = st.lists(st.floats(-80, 80, width=32), min_size=E, max_size=E)
counts = st.integers(1, 6)
CORRECTION = np.linspace(-1, 1, E, dtype=np.float32)


def wide_softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def route(rule: Callable[..., Any], row: list[float], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Route one token, in a batch of tokens that are others: (its scores, its experts, its weights)."""
    x = np.array([row[::-1], row], dtype=np.float32)
    chosen, weights = rule(x, k)
    assert chosen.shape == weights.shape == (2, k)
    assert weights.dtype == np.float32
    assert (weights >= 0).all()
    assert all(len(set(one)) == k for one in chosen.tolist())
    return x[1], chosen[1], weights[1]


@FIXED
@given(rows, counts)
@example([3e38, -3e38] * 6, 6)
def test_softmax_over_the_chosen(row: list[float], k: int) -> None:
    with np.errstate(over="ignore"):
        x, chosen, weights = route(top_k_softmax, row, k)
    assert abs(weights.sum(dtype=np.float64) - 1) < 1e-6
    assert (np.diff(weights) <= 0).all()
    assert x[chosen].min() >= np.delete(x, chosen).max()


@FIXED
@given(rows, counts)
def test_softmax_over_all(row: list[float], k: int) -> None:
    """The weights lack to 1 what the others have."""
    x, chosen, weights = route(softmax_top_k, row, k)
    others = np.delete(wide_softmax(x), chosen).sum()
    assert abs(weights.sum(dtype=np.float64) + others - 1) < 1e-6


@FIXED
@given(rows, counts, st.sampled_from([0.5, 1.0, 2.0, np.inf]))
def test_a_norm_of_one(row: list[float], k: int, p: float) -> None:
    _, _, weights = route(partial(softmax_top_k_normed, p=p), row, k)
    assert np.linalg.norm(weights.astype(np.float64), ord=p) == pytest.approx(1, rel=1e-5)


@FIXED
@given(rows, counts, st.sampled_from([(1, 1), (4, 2), (3, 2), (6, 3)]), st.sampled_from([1.0, 16.0]))
def test_groups_under_a_softmax(row: list[float], k: int, limit: tuple[int, int], factor: float) -> None:
    groups, kept = limit
    x, chosen, weights = route(partial(group_limited_top_k, groups=groups, kept=kept, factor=factor), row, k)
    others = np.delete(wide_softmax(x), chosen).sum()
    assert abs(weights.sum(dtype=np.float64) / factor + others - 1) < 1e-6
    in_use = set((chosen[weights > 0] // (E // groups)).tolist())
    assert len(in_use) <= kept


@FIXED
@given(rows, counts, st.sampled_from([(1, 1), (4, 2), (3, 2), (6, 3)]), st.booleans())
@example([-80.0] * E, 6, (4, 2), True)
def test_groups_under_sigmoids(row: list[float], k: int, limit: tuple[int, int], normed: bool) -> None:
    """Normed, they sum to the factor, but for the 1e-20 in the divisor that keeps it from 0."""
    groups, kept = limit
    rule = partial(
        sigmoid_grouped_top_k, correction=CORRECTION, groups=groups, kept=kept, normed=normed, factor=2.5
    )
    x, chosen, weights = route(rule, row, k)
    scores = np.exp(-np.logaddexp(0, -x.astype(np.float64)))[chosen]
    expected = 2.5 * scores / (scores.sum() + 1e-20 if normed else 1)
    np.testing.assert_allclose(weights, expected, rtol=2e-5, atol=1e-37)
    if normed and scores.sum() > 1e-13:
        assert weights.sum(dtype=np.float64) == pytest.approx(2.5, rel=1e-5)
    assert len(set((chosen // (E // groups)).tolist())) <= kept
