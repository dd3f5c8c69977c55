"""Differential attention: the difference of two attention maps, in which what both have in common cancels.

    y = (softmax(scale · q₁ k₁ᵀ + mask) − λ softmax(scale · q₂ k₂ᵀ + mask)) v

A softmax gives every visible token some weight, and over a long text the small weights of tokens that do not
matter add up. Two maps with queries and keys of their own spread such weight alike; the second, subtracted,
takes it away, as a differential amplifier takes away the noise that is on both of its wires. Weights may
become negative, and those of a query sum to 1 − λ. λ is learned, one number for a layer, through vectors
whose products may be of any sign:

    λ = exp(λ_q1 · λ_k1) − exp(λ_q2 · λ_k2) + λ_init

with λ_init from 0.2 in the first layer towards 0.8 in deep ones. Ye et al. 2024, arXiv:2410.05258.

So a head has two queries, two keys, and one value as wide as both. Of H maps, map i is subtracted H/2 later:
heads i and i + H/2 are a pair, and so are the keys and the values of groups j and j + G/2, side by side.

``differential_attention`` is this. It is also one call of ordinary attention: with both keys of a pair side
by side as one key of width 2K, a query of the first map followed by K zeros meets the first half only, and
one of the second, after K zeros, the other half. ``padded_queries`` and ``paired`` bring them there, and
``difference`` subtracts the results: whatever computes attention, in blocks or from pages, computes this too.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import attention_mean, attention_probabilities, attention_scores
from tinystar_np.kernels.masks import Mask


def differential_attention(
    q: NDArray, k: NDArray, v: NDArray, mask: Mask | None, *, scale: float, share: float
) -> NDArray:
    """Compute differential attention by the definition.

    q      (..., H, T, K), those of the first maps, then those that are subtracted; H is even
    k      (..., G, S, K), likewise; G is even and divides H
    v      (..., G/2, S, K_v)
    mask   which keys each query may attend to; None for all
    scale  what the products q·k are multiplied by
    share  λ, how much of the second map is subtracted

    Returns (..., H/2, T, K_v).

    >>> q, k = np.ones((2, 1, 1)), np.log([[[1.0], [3.0]], [[1.0], [1.0]]])  # weights 1/4, 3/4 and 1/2, 1/2
    >>> v = np.array([[[8.0], [16.0]]])
    >>> differential_attention(q, k, v, None, scale=1.0, share=0.5).round(6).tolist()  # 0 · 8 + 1/2 · 16
    [[[8.0]]]
    """
    probabilities = attention_probabilities(attention_scores(q, k, scale=scale), mask)
    first, second = np.split(probabilities, 2, axis=-3)  # (..., H/2, T, S)
    return attention_mean(first - first.dtype.type(share) * second, v)


def paired(x: NDArray) -> NDArray:
    """Put heads j and j + G/2 side by side: (..., G, S, K) → (..., G/2, S, 2K).

    >>> paired(np.array([[[1]], [[2]], [[3]], [[4]]])).tolist()
    [[[1, 3]], [[2, 4]]]
    """
    return np.concatenate(np.split(x, 2, axis=-3), axis=-1)


def padded_queries(q: NDArray, kv_heads: int) -> NDArray:
    """Widen queries by zeros, so that each meets its own half of a paired key.

    q         (..., H, T, K), those of the first maps, then those that are subtracted
    kv_heads  G/2, pairs of keys

    Returns (..., H, T, 2K), in another order: for each pair of keys, the H/G queries of the first map, then
    those of the second, so that queries of neighbouring heads share a pair.

    >>> padded_queries(np.array([[[1]], [[2]], [[3]], [[4]]]), 2)[:, 0].tolist()
    [[1, 0], [0, 3], [2, 0], [0, 4]]
    """
    *batch, H, T, K = q.shape
    apart = q.reshape(*batch, 2, kv_heads, -1, T, K)
    wide = np.zeros((*batch, kv_heads, 2, H // kv_heads // 2, T, 2 * K), dtype=q.dtype)
    wide[..., 0, :, :, :K] = apart[..., 0, :, :, :, :]
    wide[..., 1, :, :, K:] = apart[..., 1, :, :, :, :]
    return wide.reshape(*batch, H, T, 2 * K)


def difference(y: NDArray, kv_heads: int, share: float) -> NDArray:
    """Subtract from the results of the first maps a share of those of the second.

    y         (..., H, T, K_v), of queries in the order of ``padded_queries``
    kv_heads  G/2
    share     λ

    Returns (..., H/2, T, K_v).

    >>> difference(np.array([[[5.0]], [[4.0]], [[3.0]], [[2.0]]]), 2, 0.5).ravel().tolist()
    [3.0, 2.0]
    """
    *batch, H, T, K_v = y.shape
    by_map = y.reshape(*batch, kv_heads, 2, -1, T, K_v)
    first, second = by_map[..., 0, :, :, :], by_map[..., 1, :, :, :]
    return (first - first.dtype.type(share) * second).reshape(*batch, H // 2, T, K_v)
