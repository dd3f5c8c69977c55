"""Differential attention: the definition by loops, and the one call of attention against the definition."""

import numpy as np
import pytest
from masks import last_queries

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.differential_attention import (
    difference,
    differential_attention,
    padded_queries,
    paired,
)


def random_qkv(maps: int, keys: int, t: int, s: int, width: int = 6) -> tuple[np.ndarray, ...]:
    draw = np.random.default_rng(maps).standard_normal
    return tuple(
        draw((2, heads, n, width), dtype=np.float32) for heads, n in ((maps, t), (keys, s), (keys, s))
    )


def test_definition() -> None:
    """One query at a time, in float64."""
    maps, keys, t, s = 8, 4, 3, 5
    q, k, v = random_qkv(maps, keys, t, s)
    found = differential_attention(q, k, paired(v), last_queries(t, s), scale=0.3, share=0.7)
    assert found.shape == (2, 4, t, 12)
    assert found.dtype == np.float32
    for b, h, i in np.ndindex(2, 4, t):
        both = np.zeros(12)
        for head, sign in ((h, 1.0), (h + 4, -0.7)):
            seen = s - t + i + 1
            scores = 0.3 * k[b, head // 2, :seen].astype(float) @ q[b, head, i].astype(float)
            weights = np.exp(scores) / np.exp(scores).sum()
            pair = h // 2  # of keys 0 and 2, or 1 and 3
            both += sign * np.concatenate([weights @ v[b, pair, :seen], weights @ v[b, pair + 2, :seen]])
        np.testing.assert_allclose(found[b, h, i], both, atol=1e-6)


@pytest.mark.parametrize(("maps", "keys"), [(2, 2), (8, 2), (8, 4), (12, 6), (6, 6)])
def test_one_call_of_attention(maps: int, keys: int) -> None:
    q, k, v = random_qkv(maps, keys, 4, 9)
    mask = last_queries(4, 9)
    expected = differential_attention(q, k, paired(v), mask, scale=0.4, share=0.6)
    y = attention(padded_queries(q, keys // 2), paired(k), paired(v), mask, scale=0.4)
    np.testing.assert_allclose(difference(y, keys // 2, 0.6), expected, atol=1e-6)


def test_what_both_maps_have_in_common_cancels() -> None:
    q, k, v = random_qkv(2, 2, 3, 5)
    twice = differential_attention(q[:, [0, 0]], k[:, [0, 0]], paired(v), None, scale=1.0, share=1.0)
    np.testing.assert_allclose(twice, 0, atol=1e-6)
