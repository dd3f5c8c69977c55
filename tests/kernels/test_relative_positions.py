"""Relative positions: the definition by loops, and the forms that run against the definition."""

import tracemalloc

import numpy as np
import pytest
from masks import last_queries

from tinystar_np import fast
from tinystar_np.kernels.attention import attention, bias_by_distance
from tinystar_np.kernels.blockwise_attention import QUERY_BLOCK
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.relative_positions import relative_attention, relative_index

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
    mask = Mask(np.array(queries), np.array(keys))
    found = relative_attention(q, k, v, mask, a, b, scale=0.5)
    assert found.dtype == np.float32
    expected = relative_by_loops(q, k, v, a, b, queries, keys, 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_index_of_rows_at_their_own_positions() -> None:
    mask = Mask(np.array([[3, 4], [0, 1]]), np.array([[2, 3, 4], [-1, 0, 1]]))
    expected = [[0, 1, 2], [0, 0, 1]]
    np.testing.assert_array_equal(relative_index(mask, 1), [[expected], [expected]])


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
    mask = last_queries(t, s, window, causal)
    rng = np.random.default_rng(0)
    for bias in (
        rng.standard_normal((heads, s), dtype=np.float32),
        bias_by_distance(rng.standard_normal((heads, s + t - 1), dtype=np.float32), t),
    ):
        broad = bias if bias.ndim == 2 else bias[None]
        expected = relative_attention(q, k, v, mask, a, b, scale=0.4, bias=broad)
        found = fast.relative_attention(q, k, v, mask, a, b, scale=0.4, bias=broad)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_vectors_of_zeros_are_ordinary_attention_and_others_are_not() -> None:
    q, k, v, a, b = random_arrays(2, 2, Q + 5, Q + 5, 3)
    zeros = np.zeros_like(a)
    mask = last_queries(Q + 5, Q + 5)
    plain = attention(q, k, v, mask, scale=0.5)
    found = fast.relative_attention(q, k, v, mask, zeros, zeros, scale=0.5)
    np.testing.assert_allclose(found, plain, atol=1e-5)
    for tables in ((a, zeros), (zeros, b)):
        found = fast.relative_attention(q, k, v, mask, *tables, scale=0.5)
        assert np.abs(found - plain).max() > 0.1


def test_the_last_vectors_are_never_used_where_the_future_is_hidden() -> None:
    q, k, v, a, b = random_arrays(2, 2, Q + 5, Q + 5, 3)
    mask = last_queries(Q + 5, Q + 5)
    before = fast.relative_attention(q, k, v, mask, a, b, scale=0.5)
    a[4:], b[4:] = 99, -99
    after = fast.relative_attention(q, k, v, mask, a, b, scale=0.5)
    np.testing.assert_array_equal(after, before)


def test_a_long_prompt_builds_no_square_of_scores() -> None:
    q, k, v, a, b = random_arrays(4, 4, 2048, 2048, 16)
    mask = last_queries(2048, 2048)
    tracemalloc.start()
    fast.relative_attention(q, k, v, mask, a, b, scale=0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * Q * 2048 * 4  # the scores of one head would be 16 such blocks, of all of them 128
