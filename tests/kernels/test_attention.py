"""The two forms of attention against each other and against a loop over single scores."""

import tracemalloc

import numpy as np
import pytest
from masks import last_queries

from tinystar_np import fast
from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.blockwise_attention import KEY_BLOCK, QUERY_BLOCK, blockwise_attention
from tinystar_np.kernels.masks import visible
from tinystar_np.kernels.softmax import log_softmax, softmax


def random_qkv(t: int, s: int, heads: int = 2, width: int = 8, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(t * 1000 + s)
    shapes = ((heads, t, width), (heads, s, width), (heads, s, width))
    return tuple(scale * rng.standard_normal(shape, dtype=np.float32) for shape in shapes)


def attention_by_loops(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """Causal attention one score at a time, in float64."""
    out = np.zeros(q.shape)
    before = k.shape[1] - q.shape[1]
    for h in range(q.shape[0]):
        for t in range(q.shape[1]):
            seen = before + t + 1
            weights = [np.exp(scale * float(q[h, t].astype(np.float64) @ k[h, s])) for s in range(seen)]
            out[h, t] = sum(w * v[h, s] for w, s in zip(weights, range(seen), strict=True)) / sum(weights)
    return out


@pytest.mark.parametrize(("t", "s"), [(1, 1), (1, 7), (5, 5), (3, 9)])
def test_definition(t: int, s: int) -> None:
    q, k, v = random_qkv(t, s)
    np.testing.assert_allclose(
        attention(q, k, v, last_queries(t, s), scale=0.3),
        attention_by_loops(q, k, v, 0.3),
        rtol=1e-5,
        atol=1e-6,
    )


Q, K = QUERY_BLOCK, KEY_BLOCK


@pytest.mark.parametrize("t", [1, 2, Q - 1, Q, Q + 1, 2 * Q + 3])
@pytest.mark.parametrize("before", [0, 1, Q, K - Q, K - 1, K, K + 1])
def test_blocks_give_the_definition(t: int, before: int) -> None:
    q, k, v = random_qkv(t, before + t)
    expected = attention(q, k, v, last_queries(t, before + t), scale=0.5)
    found = blockwise_attention(q, k, v, scale=0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_blocks_when_the_largest_score_comes_late() -> None:
    """The sums so far must be re-based, not only extended; and no exponential may overflow."""
    q, k, v = random_qkv(1, 2 * K)
    k[:, : K + 5] *= 0.01
    k[:, K + 5] = 100 * q[:, 0]
    expected = attention(q, k, v, None, scale=1.0)
    np.testing.assert_allclose(blockwise_attention(q, k, v, scale=1.0), expected, rtol=1e-4, atol=1e-6)


def test_the_future_changes_nothing() -> None:
    q, k, v = random_qkv(300, 300)
    before = blockwise_attention(q, k, v, scale=1.0)
    k[:, 200:], v[:, 200:] = 7, -5
    after = blockwise_attention(q, k, v, scale=1.0)
    np.testing.assert_array_equal(before[:, :200], after[:, :200])
    assert (before[:, 200:] != after[:, 200:]).any(axis=-1).all()


def test_a_long_prompt_builds_no_square_of_scores() -> None:
    q, k, v = random_qkv(4096, 4096, heads=4)
    mask = last_queries(4096, 4096)
    tracemalloc.start()
    fast.attention(q[None], k[None], v[None], mask, scale=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    blocks = 4 * 4 * Q * K * 4  # a few, of four heads; the scores of one head would be 64 MB
    assert peak < q.nbytes + blocks


def test_many_patches_build_no_square_of_scores() -> None:
    q, k, v = random_qkv(4096, 4096, heads=4)
    tracemalloc.start()
    fast.attention(q[None], k[None], v[None], None, scale=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The result, and of at most four threads each a block of 256 × 1024 scores; those of one head are 64 MB.
    assert peak < 2 * q.nbytes + 4 * 256 * 1024 * 4


def test_softmax() -> None:
    x = np.array([[0, 1, 2], [1000, 1000, -np.inf], [-np.inf] * 3, [-1e30, 0, 88.8]], dtype=np.float32)
    e = np.exp([0.0, 1.0, 2.0])
    p = softmax(x)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p[0], e / e.sum(), rtol=1e-6)
    np.testing.assert_array_equal(p[1:], [[0.5, 0.5, 0], [0, 0, 0], [0, p[3, 1], 1]])
    np.testing.assert_allclose(log_softmax(x[:1]), np.log(e / e.sum())[None], rtol=1e-6)
    np.testing.assert_allclose(log_softmax(x[3:])[0, 1], -88.8, rtol=1e-6)  # where log(softmax) is −inf


def grouped_qkv(heads: int, groups: int, t: int, s: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(heads * 100 + groups)
    shapes = ((2, heads, t, 8), (2, groups, s, 8), (2, groups, s, 8))
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in shapes)


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (6, 3), (5, 1), (4, 4), (7, 7)])
@pytest.mark.parametrize("window", [None, 1, 5, Q, K + 3])
@pytest.mark.parametrize(("t", "before"), [(1, 0), (1, 9), (Q + 2, 0), (3, K), (2 * Q, K + 7)])
def test_groups_windows_and_biases(heads: int, groups: int, window: int | None, t: int, before: int) -> None:
    """Both forms against attention with every key and value copied, and every score written out."""
    q, k, v = grouped_qkv(heads, groups, t, before + t)
    bias = np.random.default_rng(1).standard_normal((heads, before + t), dtype=np.float32)
    copied = [np.repeat(a, heads // groups, axis=1).astype(np.float64) for a in (k, v)]
    scores = 0.4 * np.einsum("bhtk,bhsk->bhts", q.astype(np.float64), copied[0]) + bias[:, None]
    distance = np.arange(before, before + t)[:, None] - np.arange(before + t)
    hidden = (distance < 0) | (distance >= (window or 10**9))
    weights = np.exp(np.where(hidden, -np.inf, scores))
    expected = weights @ copied[1] / weights.sum(axis=-1, keepdims=True)

    plain = attention(q, k, v, last_queries(t, before + t, window), scale=0.4, bias=bias)
    blocks = blockwise_attention(q, k, v, scale=0.4, bias=bias, window=window)
    for found in (plain, blocks):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize(("t", "before"), [(1, 9), (Q + 2, 0), (2 * Q, K + 7)])
def test_caps_and_sinks(t: int, before: int, window: int | None) -> None:
    """Both forms against every score written out, with sinks that win, lose, and take part."""
    q, k, v = grouped_qkv(6, 3, t, before + t)
    sinks = np.array([-40, -1, 0, 1, 3, 40], dtype=np.float32)
    copied = [np.repeat(a, 2, axis=1).astype(np.float64) for a in (k, v)]
    scores = 2 * np.tanh(0.4 * np.einsum("bhtk,bhsk->bhts", q.astype(np.float64), copied[0]) / 2)
    mask = last_queries(t, before + t, window)
    weights = np.exp(np.where(visible(mask), scores, -np.inf))
    total = weights.sum(axis=-1, keepdims=True) + np.exp(sinks.astype(np.float64))[:, None, None]
    expected = weights @ copied[1] / total
    settings = {"soft_cap": 2.0, "sinks": sinks}
    for found in (
        attention(q, k, v, mask, scale=0.4, **settings),
        blockwise_attention(q, k, v, scale=0.4, window=window, **settings),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)
