"""Attention: each token looks at the tokens before it and takes a weighted mean of their values.

    attention(q, k, v) = softmax(scale · q kᵀ + mask) v

The query says what a token looks for, the key what a token offers, the value what it gives. ``scale`` is
1/√K in most models: the product of two random vectors of width K grows as √K, and a softmax of large
scores would listen to one token only. The causal mask hides the future, so that a model can be trained on
every position of a text at once and generates the same way. Vaswani et al. 2017, arXiv:1706.03762.

``attention`` is the definition. It builds all T·S scores of every head: 800 MB for GPT-2 at 4096 tokens,
and as many exponentials, half of them of scores that the mask throws away.

``blockwise_attention`` is what runs for prompts. It takes a block of queries and walks over the keys that
they may see, a block at a time, keeping for each query the largest score m so far, the sum n of the
weights and the sum o of the weighted values, both relative to m:

    m' = max(m, max(s))     c = exp(m − m')     p = exp(s − m')
    n' = c n + Σ p          o' = c o + p v          result: o / n

The factor c re-bases what was summed under a smaller maximum, so the result is the same sum as in the
definition, in another order. Memory is one block of scores, which stays in the processor's cache, and
blocks wholly in the future are never computed. Milakov & Gimelshein 2018, arXiv:1805.02867; Rabe & Staats
2021, arXiv:2112.05682.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import softmax

QUERY_BLOCK = 128
KEY_BLOCK = 512
HEADS_TOGETHER = 2  # 2 × 128 × 512 float32 scores: 512 KB, about what a core's second-level cache holds


def causal_mask(queries: int, keys: int) -> NDArray[np.bool_]:
    """Say which key each query may see, where the queries are the last of the keys' positions.

    Returns (T, S): True where key s is not after query t, that is s ≤ t + S − T.
    """
    return np.tri(queries, keys, keys - queries, dtype=bool)


def attention_scores(q: NDArray, k: NDArray, scale: float) -> NDArray:
    """Compare every query with every key: (..., T, K), (..., S, K) → (..., T, S)."""
    # The query is scaled, not the scores: K numbers per token instead of S.
    return (q * q.dtype.type(scale)) @ k.swapaxes(-1, -2)


def attention_probabilities(scores: NDArray, mask: NDArray[np.bool_] | None) -> NDArray:
    """Turn scores into weights, 0 where the mask is False: (..., T, S) → (..., T, S)."""
    # −inf, not a large negative number: real models have scores beyond −1e5.
    return softmax(scores if mask is None else np.where(mask, scores, scores.dtype.type(-np.inf)))


def attention(q: NDArray, k: NDArray, v: NDArray, mask: NDArray[np.bool_] | None, scale: float) -> NDArray:
    """Attend, by the definition.

    q      (..., T, K)
    k      (..., S, K)
    v      (..., S, K)
    mask   broadcastable to (..., T, S), True where a query may see a key; None where it may see all
    scale  what the products q·k are multiplied by

    Returns (..., T, K).
    """
    return attention_probabilities(attention_scores(q, k, scale), mask) @ v


def blockwise_attention(q: NDArray, k: NDArray, v: NDArray, scale: float) -> NDArray:
    """Attend causally, a block of scores at a time: ``attention`` under ``causal_mask``.

    q      (..., H, T, K), the last T of the S positions
    k      (..., H, S, K)
    v      (..., H, S, K)
    scale  what the products q·k are multiplied by

    Returns (..., H, T, K).
    """
    before = k.shape[-2] - q.shape[-2]
    out = np.empty_like(q)
    for row in np.ndindex(q.shape[:-3]):
        for first in range(0, q.shape[-3], HEADS_TOGETHER):
            heads = slice(first, first + HEADS_TOGETHER)
            for start in range(0, q.shape[-2], QUERY_BLOCK):
                block = slice(start, start + QUERY_BLOCK)
                out[row][heads, block] = _attend(
                    q[row][heads, block], k[row][heads], v[row][heads], scale, before + start
                )
    return out


def _attend(q: NDArray, k: NDArray, v: NDArray, scale: float, first: int) -> NDArray:
    """Attend with one block of queries, standing at positions ``first``, ``first + 1``, …"""
    q = q * q.dtype.type(scale)
    end = first + q.shape[-2]  # no query of the block sees a key from ``end`` on
    for start in range(0, end, KEY_BLOCK):
        stop = min(start + KEY_BLOCK, end)
        scores = q @ k[:, start:stop].swapaxes(-1, -2)
        if stop > first + 1:  # the block reaches into the future of some of its queries
            future = slice(max(first, start) - start, None)
            later = np.arange(max(first, start), stop) > np.arange(first, end)[:, None]
            np.copyto(scores[..., future], -np.inf, where=later)
        largest_here = scores.max(axis=-1, keepdims=True)
        if start == 0:  # every query sees key 0: from here on ``largest`` is finite
            largest = largest_here
            total, out = _weigh(scores, largest, v[:, start:stop])
        else:
            previous, largest = largest, np.maximum(largest, largest_here)
            rebase = np.exp(previous - largest)
            more_total, more_out = _weigh(scores, largest, v[:, start:stop])
            total = rebase * total + more_total
            out = rebase * out + more_out
    out /= total
    return out


def _weigh(scores: NDArray, largest: NDArray, v: NDArray) -> tuple[NDArray, NDArray]:
    """Return the sum of a block's weights and of its weighted values; the scores are overwritten."""
    scores -= largest
    np.exp(scores, out=scores)
    return scores.sum(axis=-1, keepdims=True), scores @ v
