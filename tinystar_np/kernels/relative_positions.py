"""Relative positions: each distance between two tokens has a vector that is learned, and joins key and value.

    e(t, s) = scale · q_t · (k_s + a_c)          c = clip(s − t, −C, C)
    y_t     = Σ_s softmax(e)(t, s) · (v_s + b_c)

Where a token stands is not said anywhere; how far away another one is decides what it offers and what it
gives. There are 2C + 1 vectors a for keys and as many b for values, shared by all heads: beyond C tokens,
exactly how far no longer matters, and so a text may be longer than those of the training. In a decoder, which
sees no future, the last C are never used. Shaw, Uszkoreit & Vaswani 2018, arXiv:1803.02155.

``relative_attention`` is the definition. What is expensive about it are the T·S vectors that it gathers: for
1000 tokens and K = 64 as many numbers as the weights of GPT-2 have.

But there are only 2C + 1 different ones, and the product of a query with one of them need be taken once:

    q_t · (k_s + a_c) = q_t · k_s + (q_t · a)_c
    Σ_s p_ts b_c(s−t) = Σ_c (Σ of the p_ts with distance c) b_c

A product with the table gives (T, 2C + 1) numbers, from which each score takes the one of its distance
(``relative_scores``); weights are summed by distance before they meet the table (``relative_mean``).

``blockwise_relative_attention`` is what runs for prompts: one head and one block of queries at a time, so
that scores are (128, S) and no more. Keys before the block's own neighbourhood all have the distance −C,
those behind it all C: only between them distances differ, and only there each score is looked up by itself.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import (
    QUERY_BLOCK,
    attention_mean,
    attention_probabilities,
    attention_scores,
)
from tinystar_np.kernels.softmax import softmax


def relative_index(
    queries: NDArray[np.integer], keys: NDArray[np.integer], furthest: int
) -> NDArray[np.integer]:
    """Say which of the 2C + 1 vectors stands for the distance from each query to each key.

    queries   (..., T), positions
    keys      (..., S), positions in any order
    furthest  C

    Returns (..., T, S): clip(s − t, −C, C) + C.
    """
    return np.clip(keys[..., None, :] - queries[..., None], -furthest, furthest) + furthest


def relative_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    key_vectors: NDArray,
    value_vectors: NDArray,
    index: NDArray[np.integer],
    mask: NDArray[np.bool_] | None,
    scale: float,
    bias: NDArray | None = None,
) -> NDArray:
    """Attend with relative positions, by the definition.

    q              (..., H, T, K)
    k, v           (..., G, S, K), where G divides H; queries of neighbouring heads share a group
    key_vectors    a, (2C + 1, K)
    value_vectors  b, (2C + 1, K)
    index          (T, S), from ``relative_index``, or anything that broadcasts to (..., H, T, S)
    mask           broadcastable to (..., H, T, S), True where a query may see a key; None for all
    scale          what the products are multiplied by
    bias           added to the scaled scores, as in ``attention``; None for nothing

    Returns (..., H, T, K).
    """
    scores = attention_scores(q, k, scale, bias)
    scores += np.vecdot(
        (q * q.dtype.type(scale))[..., None, :], key_vectors[index]
    )  # (..., T, S, K) gathered
    probabilities = attention_probabilities(scores, mask)
    given = (probabilities[..., None, :] @ value_vectors[index])[..., 0, :]
    return attention_mean(probabilities, v) + given


def relative_scores(q: NDArray, key_vectors: NDArray, index: NDArray[np.integer], scale: float) -> NDArray:
    """Return what distances add to the scores.

    q            (..., H, T, K)
    key_vectors  (2C + 1, K)
    index        (T, S), from ``relative_index``, or with as many axes as q, broadcastable to (..., H, T, S)
    scale        what the products are multiplied by

    Returns (..., H, T, S).
    """
    by_distance = (q * q.dtype.type(scale)) @ key_vectors.T  # (..., H, T, 2C + 1)
    return np.take_along_axis(by_distance, _with_axes(index, q.ndim), axis=-1)


def relative_mean(probabilities: NDArray, index: NDArray[np.integer], value_vectors: NDArray) -> NDArray:
    """Return what distances add to the weighted mean of the values.

    probabilities  (..., H, T, S)
    index          (T, S), from ``relative_index``, or with as many axes, broadcastable to (..., H, T, S)
    value_vectors  (2C + 1, K)

    Returns (..., H, T, K).
    """
    return _sums_by_distance(probabilities, index, len(value_vectors)) @ value_vectors


def _sums_by_distance(probabilities: NDArray, index: NDArray[np.integer], vectors: int) -> NDArray:
    """Sum the weights of each query that fall on the same vector: (..., H, T, S) → (..., H, T, 2C + 1)."""
    index = np.broadcast_to(_with_axes(index, probabilities.ndim), probabilities.shape)
    rows = index.reshape(prod(index.shape[:-1]), index.shape[-1])
    counters = rows + vectors * np.arange(len(rows))[:, None]  # for every query its own 2C + 1
    sums = np.bincount(counters.ravel(), probabilities.ravel(), vectors * len(rows))
    return sums.astype(probabilities.dtype).reshape(*probabilities.shape[:-1], vectors)


def _with_axes(index: NDArray[np.integer], axes: int) -> NDArray[np.integer]:
    return index.reshape((1,) * (axes - index.ndim) + index.shape)


def blockwise_relative_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    key_vectors: NDArray,
    value_vectors: NDArray,
    scale: float,
    bias: NDArray | None = None,
    window: int | None = None,
    causal: bool = True,
) -> NDArray:
    """Attend a block of queries at a time: ``relative_attention`` for tokens that follow each other.

    q              (..., H, T, K), the last T of the S positions
    k, v           (..., G, S, K), where G divides H; queries of neighbouring heads share a group
    key_vectors    a, (2C + 1, K)
    value_vectors  b, (2C + 1, K)
    scale          what the products are multiplied by
    bias           (H, S), for every query alike, or (H, T, S), added to the scaled scores; None for nothing
    window         W: each query sees keys fewer than W positions away, its own included; None for no limit
    causal         whether keys in a query's future are hidden

    Returns (..., H, T, K).
    """
    H, T, _ = q.shape[-3:]
    G, S, _ = k.shape[-3:]
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))
    behind = S if window is None else window - 1
    ahead = 0 if causal else behind
    if bias is not None and bias.ndim == 2:
        bias = np.broadcast_to(bias[:, None], (H, T, S))
    for first in range(0, T, QUERY_BLOCK):
        block = slice(first, min(first + QUERY_BLOCK, T))
        queries = np.arange(block.start, block.stop) + S - T
        some = slice(max(queries[0] - behind, 0), min(queries[-1] + ahead + 1, S))  # what any of them sees
        distance = np.arange(some.start, some.stop) - queries[:, None]
        hidden = (distance > ahead) | (distance < -behind)
        for *row, h in np.ndindex(q.shape[:-2]):
            group = (*row, h // (H // G), some)
            out[*row, h, block] = _attend(
                q[*row, h, block],
                k[group],
                v[group],
                key_vectors,
                value_vectors,
                scale,
                None if bias is None else bias[h, block, some],
                distance,
                hidden,
            )
    return out


def _attend(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    key_vectors: NDArray,
    value_vectors: NDArray,
    scale: float,
    bias: NDArray | None,
    distance: NDArray[np.integer],
    hidden: NDArray[np.bool_],
) -> NDArray:
    """Attend with one block of queries of one head: (T, K), (S, K), (T, S) → (T, K)."""
    C = len(key_vectors) // 2
    q = q * q.dtype.type(scale)
    scores = q @ k.T
    by_distance = q @ key_vectors.T  # (T, 2C + 1)
    # Keys at −C or before for all queries, those at C or behind for all, and those between.
    start = int(np.count_nonzero(distance[0] <= -C))
    stop = max(start, len(k) - int(np.count_nonzero(distance[-1] >= C)))
    index = np.clip(distance[:, start:stop], -C, C) + C
    scores[:, :start] += by_distance[:, :1]
    scores[:, start:stop] += np.take_along_axis(by_distance, index, axis=-1)
    scores[:, stop:] += by_distance[:, -1:]
    if bias is not None:
        scores += bias
    np.copyto(scores, -np.inf, where=hidden)
    probabilities = softmax(scores)
    sums = _sums_by_distance(probabilities[:, start:stop], index, len(value_vectors))
    sums[:, 0] += probabilities[:, :start].sum(axis=-1)
    sums[:, -1] += probabilities[:, stop:].sum(axis=-1)
    return probabilities @ v + sums @ value_vectors
