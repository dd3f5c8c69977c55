"""Weights are weights: no NaN, nothing below 0, and a sum of one, whatever finite numbers or −inf come in."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from masks import last_queries
from small_models import FIXED

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.blockwise_attention import blockwise_attention
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.softmax import log_softmax, softmax

LARGEST = float(np.finfo(np.float32).max)
scores = st.one_of(
    st.sampled_from([-np.inf, -LARGEST, -3e38, -1e5, -88.8, -1e-44, 0.0, 1e-44, 88.8, 1e5, 3e38, LARGEST]),
    st.floats(-100, 100, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
rows = st.lists(scores, min_size=1, max_size=40)
finite = scores.filter(np.isfinite)


def float32(row: list[float]) -> np.ndarray:
    return np.array(row, dtype=np.float32)


def exact(row: np.ndarray) -> np.ndarray:
    """The definition in float64, where differences of float32 numbers do not overflow."""
    wide = row.astype(np.float64)
    e = np.exp(wide - wide.max())
    return e / e.sum()


@FIXED
@given(rows)
@example([3e38, -3e38])
@example([-LARGEST] * 3)
@example([-np.inf] * 3)
def test_rows_sum_to_one_and_hold_no_nan(row: list[float]) -> None:
    x = float32(row)
    # The difference of 3e38 and −3e38 is −inf in float32. exp makes the right 0 of it, and NumPy a warning.
    with np.errstate(over="ignore"):
        p = softmax(x)
    assert p.dtype == np.float32
    assert (p >= 0).all()
    assert (p[np.isneginf(x)] == 0).all()
    if np.isneginf(x).all():
        assert (p == 0).all()  # the promise: zeros, not NaN
    else:
        assert abs(p.sum(dtype=np.float64) - 1) < 1e-6
        # A difference d is rounded by d · 2⁻²⁴, which exp makes a share of its result; beyond 100 that is 0.
        np.testing.assert_allclose(p, exact(x), rtol=1e-5, atol=1e-37)


@FIXED
@given(rows, finite)
@example([-np.inf] * 2, -LARGEST)
@example([-np.inf] * 2, LARGEST)
@example([3e38, -3e38], 3e38)
@example([-3e38], 3e38)
def test_with_a_sink_they_sum_to_what_it_leaves(row: list[float], sink: float) -> None:
    x = float32(row)
    with np.errstate(over="ignore"):
        p = softmax(x, float32([sink]))
    whole = exact(float32([*row, sink]))
    assert (p >= 0).all()
    np.testing.assert_allclose(p, whole[:-1], rtol=1e-5, atol=1e-37)
    assert abs(p.sum(dtype=np.float64) + whole[-1] - 1) < 1e-6


def test_a_sink_that_never_takes_part() -> None:
    """−inf is the score of a sink that attracts nothing; a row that sees nothing still has no weights."""
    p = softmax(float32([-np.inf, -np.inf]), float32([-np.inf]))
    np.testing.assert_array_equal(p, [0, 0])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (np.array([-np.inf, -np.inf], dtype=np.float16), [0, 0]),
        (np.array([-1e300, -1e300], dtype=np.float64), [0.5, 0.5]),
    ],
)
def test_other_types(row: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_array_equal(softmax(row), expected)


@FIXED
@given(rows)
def test_the_logarithm_is_that_of_the_weights(row: list[float]) -> None:
    x = float32(row)
    if np.isneginf(x).all():
        return  # not promised
    with np.errstate(over="ignore", divide="ignore"):
        found, expected = log_softmax(x), np.log(exact(x))
    assert not np.isnan(found).any()
    visible = expected > -700  # beyond, the float64 weights are 0
    np.testing.assert_allclose(found[visible], expected[visible], rtol=2e-6, atol=2e-6)


@FIXED
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([1e-44, 1e-20, 1.0, 1e10, 1e18]),
    soft_cap=st.sampled_from([None, 1e-3, 30.0]),
    sink=st.sampled_from([None, -3e38, -5.0, 40.0, 3e38]),
    window=st.sampled_from([None, 1, 3]),
)
def test_attention_is_a_mean(
    seed: int, size: float, soft_cap: float | None, sink: float | None, window: int | None
) -> None:
    """With values of one, what comes out is the sum of the weights; products q·k reach 1e37."""
    q, k = np.float32(size) * np.random.default_rng(seed).standard_normal((2, 2, 9, 8), dtype=np.float32)
    v = np.ones((2, 9, 1), dtype=np.float32)
    settings = {"soft_cap": soft_cap, "sinks": None if sink is None else np.full(2, sink, dtype=np.float32)}
    mask = last_queries(9, 9, window)
    with np.errstate(over="ignore"):
        found = [
            attention(q, k, v, mask, scale=0.3, **settings),
            blockwise_attention(q, k, v, scale=0.3, window=window, **settings),
        ]
    for sums in found:
        assert not np.isnan(sums).any()
        if sink is None or sink == -3e38:
            np.testing.assert_allclose(sums, 1, rtol=1e-6)
        else:
            assert ((sums >= 0) & (sums <= 1 + 1e-6)).all()


def test_products_beyond_float32_are_bent_by_a_cap() -> None:
    """3e38 · 3e38 is inf in float32. A cap makes c of it; without one there is no finite score to weigh."""
    q = np.full((1, 2, 4), 3e38, dtype=np.float32)
    k = q * np.array([1, -1], dtype=np.float32)[:, None]
    v = np.array([[[1.0], [2.0]]], dtype=np.float32)
    with np.errstate(over="ignore"):
        plain = attention(q, k, v, last_queries(2, 2), scale=1.0, soft_cap=2.0)
        blocks = blockwise_attention(q, k, v, scale=1.0, soft_cap=2.0)
    second = (1 + 2 * np.exp(-4)) / (1 + np.exp(-4))  # scores 2 and −2
    np.testing.assert_allclose(plain[0, :, 0], [1, second], rtol=1e-6)
    np.testing.assert_allclose(blocks[0, :, 0], [1, second], rtol=1e-6)


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 4, 8), dtype=np.float32)
    mask = Mask(np.array([0, 1, -1, 3]), np.arange(4))
    for sinks in (None, np.array([0, 1], dtype=np.float32)):
        found = attention(q, k, v, mask, scale=1.0, sinks=sinks)
        assert (found[:, 2] == 0).all()
        assert (found[:, [0, 1, 3]] != 0).all()
