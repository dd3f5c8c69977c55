"""Relative positions: the definition by loops, and the forms that run against the definition."""

import tracemalloc

import numpy as np
import pytest

from tinystar_np.kernels.attention import (
    QUERY_BLOCK,
    attention,
    attention_mean,
    attention_probabilities,
    attention_scores,
    bias_by_distance,
    bidirectional_mask,
    causal_mask,
)
from tinystar_np.kernels.relative_positions import (
    blockwise_relative_attention,
    relative_attention,
    relative_index,
    relative_mean,
    relative_scores,
)

WIDTH = 4


def random_arrays(heads: int, groups: int, t: int, s: int, furthest: int) -> tuple[np.ndarray, ...]:
    """q, k, v and the two tables."""
    rng = np.random.default_rng(t * 1000 + s + furthest)
    shapes = [(2, heads, t, WIDTH), (2, groups, s, WIDTH), (2, groups, s, WIDTH)]
    shapes += [(2 * furthest + 1, WIDTH)] * 2
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in shapes)


def relative_by_loops(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    queries: list[int],
    keys: list[int],
    scale: float,
) -> np.ndarray:
    """Equations 3 and 4 of the paper under a causal mask, one pair at a time, in float64."""
    furthest = len(a) // 2
    out = np.zeros(q.shape)
    for r, h, i in np.ndindex(q.shape[:3]):
        g = h // (q.shape[1] // k.shape[1])
        total = 0.0
        for j, s in enumerate(keys):
            if s > queries[i] or s < 0:
                continue
            c = max(-furthest, min(furthest, s - queries[i])) + furthest
            key = k[r, g, j].astype(float) + a[c]
            weight = np.exp(scale * float(q[r, h, i] @ key))
            out[r, h, i] += weight * (v[r, g, j].astype(float) + b[c])
            total += weight
        out[r, h, i] /= total
    return out


@pytest.mark.parametrize("furthest", [0, 1, 3, 20])
def test_definition(furthest: int) -> None:
    """Keys in any order, as a window's cache has them."""
    q, k, v, a, b = random_arrays(4, 2, 3, 9, furthest)
    queries, keys = [6, 7, 8], [8, 0, 1, 2, 7, 3, 6, 5, 4]
    index = relative_index(np.array(queries), np.array(keys), furthest)
    mask = np.array(keys) <= np.array(queries)[:, None]
    found = relative_attention(q, k, v, a, b, index, mask, 0.5)
    assert found.dtype == np.float32
    expected = relative_by_loops(q, k, v, a, b, queries, keys, 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
    by_table = attention_scores(q, k, 0.5) + relative_scores(q, a, index, 0.5)
    probabilities = attention_probabilities(by_table, mask)
    found = attention_mean(probabilities, v) + relative_mean(probabilities, index, b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_index_of_rows_at_their_own_positions() -> None:
    found = relative_index(np.array([[[3, 4]], [[0, 1]]]), np.array([[[2, 3, 4]], [[-1, 0, 1]]]), 1)
    expected = [[0, 1, 2], [0, 0, 1]]
    np.testing.assert_array_equal(found, [[expected], [expected]])
    q, k, _, a, b = random_arrays(2, 2, 2, 3, 1)
    together = relative_scores(q, a, found, 1.0)
    alone = relative_scores(q, a, np.array(expected), 1.0)
    np.testing.assert_array_equal(together, alone)
    p = attention_probabilities(attention_scores(q, k, 1.0), None)
    np.testing.assert_array_equal(relative_mean(p, found, b), relative_mean(p, np.array(expected), b))


Q = QUERY_BLOCK


@pytest.mark.parametrize("furthest", [0, 1, 5, 2 * Q])
@pytest.mark.parametrize(("t", "before"), [(1, 0), (5, 3), (Q + 1, 0), (2 * Q + 3, 70)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 6, Q + 9])
def test_blocks_give_the_definition(
    furthest: int, t: int, before: int, causal: bool, window: int | None
) -> None:
    s, heads, groups = before + t, 4, 2
    q, k, v, a, b = random_arrays(heads, groups, t, s, furthest)
    if causal:
        mask: np.ndarray | None = causal_mask(t, s, window)
    else:
        mask = None if window is None else bidirectional_mask(t, s, window)
    index = relative_index(np.arange(before, s), np.arange(s), furthest)
    rng = np.random.default_rng(0)
    for bias in (
        rng.standard_normal((heads, s), dtype=np.float32),
        bias_by_distance(rng.standard_normal((heads, s + t - 1), dtype=np.float32), t),
    ):
        broad = bias if bias.ndim == 2 else bias[None]
        expected = relative_attention(q, k, v, a, b, index, mask, 0.4, broad)
        found = blockwise_relative_attention(q, k, v, a, b, 0.4, bias, window, causal)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_vectors_of_zeros_are_ordinary_attention_and_others_are_not() -> None:
    q, k, v, a, b = random_arrays(2, 2, Q + 5, Q + 5, 3)
    zeros = np.zeros_like(a)
    plain = attention(q, k, v, causal_mask(Q + 5, Q + 5), 0.5)
    np.testing.assert_allclose(blockwise_relative_attention(q, k, v, zeros, zeros, 0.5), plain, atol=1e-5)
    for tables in ((a, zeros), (zeros, b)):
        assert np.abs(blockwise_relative_attention(q, k, v, *tables, 0.5) - plain).max() > 0.1


def test_the_last_vectors_are_never_used_where_the_future_is_hidden() -> None:
    q, k, v, a, b = random_arrays(2, 2, Q + 5, Q + 5, 3)
    before = blockwise_relative_attention(q, k, v, a, b, 0.5)
    a[4:], b[4:] = 99, -99
    np.testing.assert_array_equal(blockwise_relative_attention(q, k, v, a, b, 0.5), before)


def test_a_long_prompt_builds_no_square_of_scores() -> None:
    q, k, v, a, b = random_arrays(4, 4, 2048, 2048, 16)
    tracemalloc.start()
    blockwise_relative_attention(q, k, v, a, b, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * Q * 2048 * 4  # the scores of one head would be 16 such blocks, of all of them 128
