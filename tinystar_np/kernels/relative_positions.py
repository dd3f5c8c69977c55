"""Relative positions: a learned vector for each distance of two tokens is added to key and value.

    e(t, s) = scale · q_t · (k_s + a_c)          c = clip(s − t, −C, C)
    y_t     = Σ_s softmax(e)(t, s) · (v_s + b_c)

There are no absolute positions. There are 2C + 1 vectors a for keys and as many b for values, shared by all
heads: all distances beyond C count as C, and so a text may be longer than those of the training. In a
decoder, where the future is hidden, the last C are never used. Shaw, Uszkoreit & Vaswani 2018,
arXiv:1803.02155.

Taken literally, T·S vectors would be gathered for keys and as many for values: for 1000 tokens and K = 64 as
many numbers as GPT-2 has weights. But only 2C + 1 of each differ, and sums over them can be taken first:

    q_t · (k_s + a_c) = q_t · k_s + (q_t · a)_c
    Σ_s p_ts b_c(s−t) = Σ_c (Σ of the p_ts with distance c) b_c

A product with the table gives (T, 2C + 1) numbers, from which each score takes the one of its distance
(``relative_scores``); weights are summed by distance before they meet the table (``relative_mean``).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import attention_mean, attention_probabilities, attention_scores
from tinystar_np.kernels.masks import Mask


def relative_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: Mask,
    key_vectors: NDArray,
    value_vectors: NDArray,
    *,
    scale: float,
    bias: NDArray | None = None,
) -> NDArray:
    """Compute attention with relative positions, by the formula.

    q              (B, H, T, K)
    k, v           (B, G, S, K), where G divides H; queries of neighbouring heads share a group
    mask           the positions, and which keys each query may attend to
    key_vectors    a, (2C + 1, K)
    value_vectors  b, (2C + 1, K)
    scale          what the products are multiplied by
    bias           added to the scaled scores, as in ``attention``; None for nothing

    Returns (B, H, T, K).

    >>> q = k = np.zeros((1, 1, 2, 1))  # equal weights
    >>> v, mask = np.array([[[[0.0], [4.0]]]]), Mask(np.arange(2), np.arange(2))
    >>> a, b = np.zeros((3, 1)), np.array([[100.0], [10.0], [1.0]])  # b: distances −1, 0 and 1
    >>> relative_attention(q, k, v, mask, a, b, scale=1.0).tolist()  # 0 + 10, then (0 + 100 + 4 + 10) / 2
    [[[[10.0], [57.0]]]]
    """
    scores = attention_scores(q, k, scale=scale, bias=bias) + relative_scores(
        q, key_vectors, mask, scale=scale
    )
    probabilities = attention_probabilities(scores, mask)
    return attention_mean(probabilities, v) + relative_mean(probabilities, value_vectors, mask)


def relative_index(mask: Mask, furthest: int) -> NDArray[np.integer]:
    """Return the index of the vector for the distance from each query to each key.

    furthest  C

    Returns clip(s − t, −C, C) + C: (T, S), or (B, 1, T, S) where rows differ.

    >>> relative_index(Mask(np.arange(3), np.arange(3)), 1).tolist()
    [[1, 2, 2], [0, 1, 2], [0, 0, 1]]
    """
    t, s = mask.query_positions[..., :, None], mask.key_positions[..., None, :]
    index = np.clip(s - t, -furthest, furthest) + furthest
    return index if index.ndim == 2 else index[:, None]


def relative_scores(q: NDArray, key_vectors: NDArray, mask: Mask, *, scale: float) -> NDArray:
    """Return what distances add to the scores: (B, H, T, K) → (B, H, T, S).

    key_vectors  (2C + 1, K)
    scale        what the products are multiplied by

    >>> q, mask = np.array([[[[1.0], [2.0]]]]), Mask(np.arange(2), np.arange(2))
    >>> relative_scores(q, np.array([[5.0], [6.0], [7.0]]), mask, scale=0.5).tolist()
    [[[[3.0, 3.5], [5.0, 6.0]]]]
    """
    by_distance = (q * q.dtype.type(scale)) @ key_vectors.T  # (B, H, T, 2C + 1)
    index = relative_index(mask, len(key_vectors) // 2)
    return np.take_along_axis(by_distance, index.reshape(-1, 1, *index.shape[-2:]), axis=-1)


def relative_mean(probabilities: NDArray, value_vectors: NDArray, mask: Mask) -> NDArray:
    """Return what distances add to the weighted mean of the values: (B, H, T, S) → (B, H, T, K).

    value_vectors  (2C + 1, K)

    >>> probabilities, mask = np.array([[[[1.0, 0.0], [0.25, 0.75]]]]), Mask(np.arange(2), np.arange(2))
    >>> relative_mean(probabilities, np.array([[100.0], [10.0], [1.0]]), mask).tolist()
    [[[[10.0], [32.5]]]]
    """
    index = np.broadcast_to(relative_index(mask, len(value_vectors) // 2), probabilities.shape)
    return sums_by_index(probabilities, index, len(value_vectors)) @ value_vectors


def sums_by_index(x: NDArray, index: NDArray[np.integer], length: int) -> NDArray:
    """Sum the numbers of the last axis that have the same index: (..., S), (..., S) → (..., length).

    >>> sums_by_index(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 0]), 3).tolist()
    [5.0, 0.0, 2.0]
    """
    rows = index.reshape(prod(index.shape[:-1]), index.shape[-1])
    counters = rows + length * np.arange(len(rows))[:, None]  # each row has ``length`` counters of its own
    sums = np.bincount(counters.ravel(), x.ravel(), length * len(rows))
    return sums.astype(x.dtype).reshape(*x.shape[:-1], length)
