"""Attention: each token looks at the tokens before it and takes a weighted mean of their values.

    attention(q, k, v) = softmax(scale · q kᵀ + bias + mask) v

The query says what a token looks for, the key what a token offers, the value what it gives. ``scale`` is
1/√K in most models: the product of two random vectors of width K grows as √K, and a softmax of large
scores would listen to one token only. The causal mask hides the future, so that a model can be trained on
every position of a text at once and generates the same way. Vaswani et al. 2017, arXiv:1706.03762.

**Grouped queries.** Keys and values are what a model must remember of every token, H·K numbers of each.
Several query heads can share one head of them: H queries, G keys and values, R = H/G queries in a group;
G = H is multi-head attention, G = 1 multi-query attention (Shazeer 2019, arXiv:1911.02150; Ainslie et al.
2023, arXiv:2305.13245). The R queries of a group are nothing but R times as many queries to the same keys,
and so they are computed: no key is copied.

**Windows.** A token that sees only the W tokens up to itself has a cost and a memory that do not grow with
the text; through L layers news still travels L·W tokens. Beltagy et al. 2020, arXiv:2004.05150.

**Both ways.** An encoder hides nothing: each token sees those behind it too, or those fewer than W away on
either side. Such a model reads a text at once; it cannot continue one, since every earlier token would have
to be computed anew. Devlin et al. 2018, arXiv:1810.04805.

**Caps and sinks.** A soft cap c bends scores into −c … c, c · tanh(s / c), so that no weight can become all
or nothing (Gemma 2, arXiv:2408.00118). A sink is one more score of each head that belongs to no key: a head
that finds nothing can look there (Xiao et al. 2023, arXiv:2309.17453; gpt-oss learns it).

**Biases** are numbers added to the scores, one for each key (kernels/alibi.py), or one for each distance
between a query and a key.

``attention`` is the definition. It builds all T·S scores of every head: 800 MB for GPT-2 at 4096 tokens,
and as many exponentials, half of them of scores that the mask throws away.

``blockwise_attention`` is what runs for prompts. It takes a block of queries and walks over the keys that
they may see, a block at a time, keeping for each query the largest score m so far, the sum n of the
weights and the sum o of the weighted values, both relative to m:

    m' = max(m, max(s))     c = exp(m − m')     p = exp(s − m')
    n' = c n + Σ p          o' = c o + p v          result: o / n

The factor c re-bases what was summed under a smaller maximum, so the result is the same sum as in the
definition, in another order. Memory is one block of scores, which stays in the processor's cache, and
blocks wholly in the future, or wholly behind the window, are never computed. Milakov & Gimelshein 2018,
arXiv:1805.02867; Rabe & Staats 2021, arXiv:2112.05682.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import LOWEST, softmax

QUERY_BLOCK = 64
KEY_BLOCK = 512
HEADS_TOGETHER = 8  # 8 × 64 × 512 float32 scores: 1 MB, about what a core's second-level cache holds


def causal_mask(queries: int, keys: int, window: int | None = None) -> NDArray[np.bool_]:
    """Say which key each query may see, where the queries are the last of the keys' positions.

    window  W, how many keys each query sees, its own included; None for all that are not in the future

    Returns (T, S): True where key s is not after query t, that is s ≤ t + S − T, nor W or more before it.
    """
    mask = np.tri(queries, keys, keys - queries, dtype=bool)
    if window is not None:
        mask &= ~np.tri(queries, keys, keys - queries - window, dtype=bool)
    return mask


def bidirectional_mask(queries: int, keys: int, window: int) -> NDArray[np.bool_]:
    """Say which key each query may see where it sees both ways; as ``causal_mask``, without its future.

    window  W: a query sees the keys fewer than W positions away, W − 1 on each side and its own

    Returns (T, S): True where |s − (t + S − T)| < W.
    """
    mask = np.tri(queries, keys, keys - queries + window - 1, dtype=bool)
    mask &= ~np.tri(queries, keys, keys - queries - window, dtype=bool)
    return mask


def bias_by_distance(table: NDArray, queries: int) -> NDArray:
    """Spread what is added at each distance over queries and keys, the queries being the last positions.

    table    (H, S + T − 1), for the distances from query to key −(S − 1), …, T − 1
    queries  T

    Returns (H, T, S), a read-only view: along a diagonal of the scores the distance is the same, and so each
    row is the table, seen from one place further left than the row before.
    """
    keys = table.shape[-1] - queries + 1
    return sliding_window_view(table, keys, axis=-1)[:, ::-1]


def attention_scores(
    q: NDArray, k: NDArray, scale: float, bias: NDArray | None = None, soft_cap: float | None = None
) -> NDArray:
    """Compare every query with the keys of its group: (..., H, T, K), (..., G, S, K) → (..., H, T, S).

    bias      added to the scaled scores: (..., H, S), for every query alike, or broadcastable to
              (..., H, T, S) with as many axes; None for nothing
    soft_cap  c, which scores are bent below, before the bias; None for no bend
    """
    *batch, H, T, K = q.shape
    G = k.shape[-3]
    # The query is scaled, not the scores: K numbers per token instead of S.
    stacked = (q * q.dtype.type(scale)).reshape(*batch, G, H // G * T, K)
    scores = (stacked @ k.swapaxes(-1, -2)).reshape(*batch, H, T, k.shape[-2])
    if soft_cap is not None:
        bend(scores, soft_cap)
    if bias is not None:
        scores += bias if bias.ndim == scores.ndim else bias[..., None, :]
    return scores


def bend(scores: NDArray, soft_cap: float) -> None:
    """Replace scores by c · tanh(scores / c), in place."""
    scores /= scores.dtype.type(soft_cap)
    np.tanh(scores, out=scores)
    scores *= scores.dtype.type(soft_cap)


def attention_probabilities(
    scores: NDArray, mask: NDArray[np.bool_] | None, sinks: NDArray | None = None
) -> NDArray:
    """Turn scores into weights, 0 where the mask is False: (..., H, T, S) → (..., H, T, S).

    sinks  (H,), one more score for every query of a head; None for none
    """
    # −inf, not a large negative number: real models have scores beyond −1e5.
    masked = scores if mask is None else np.where(mask, scores, scores.dtype.type(-np.inf))
    return softmax(masked, None if sinks is None else sinks[:, None, None])


def attention_mean(probabilities: NDArray, v: NDArray) -> NDArray:
    """Weigh the values of each group: (..., H, T, S), (..., G, S, K) → (..., H, T, K), as wide as v."""
    *batch, H, T, S = probabilities.shape
    G, K = v.shape[-3], v.shape[-1]
    return (probabilities.reshape(*batch, G, H // G * T, S) @ v).reshape(*batch, H, T, K)


def attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: NDArray[np.bool_] | None,
    scale: float,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Attend, by the definition.

    q         (..., H, T, K)
    k         (..., G, S, K), where G divides H; queries of neighbouring heads share a group
    v         (..., G, S, K), or of another width than q and k
    mask      broadcastable to (..., H, T, S), True where a query may see a key; None where it may see all
    scale     what the products q·k are multiplied by
    bias      added to the scaled scores: (..., H, S), for every query alike, or broadcastable to
              (..., H, T, S) with as many axes; None for nothing
    soft_cap  c, which scaled scores are bent below; None for no bend
    sinks     (H,), one more score for every query of a head; None for none

    Returns (..., H, T, K), as wide as the values.
    """
    scores = attention_scores(q, k, scale, bias, soft_cap)
    return attention_mean(attention_probabilities(scores, mask, sinks), v)


def blockwise_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    scale: float,
    bias: NDArray | None = None,
    window: int | None = None,
    causal: bool = True,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Attend a block of scores at a time: ``attention`` under ``causal_mask``, or ``bidirectional_mask``.

    q         (..., H, T, K), the last T of the S positions
    k         (..., G, S, K), where G divides H; queries of neighbouring heads share a group
    v         (..., G, S, K), or of another width than q and k
    scale     what the products q·k are multiplied by
    bias      (H, S), for every query alike, or (H, T, S), added to the scaled scores; None for nothing
    window    W: each query sees the keys fewer than W positions away, its own included; None for no limit
    causal    whether keys in a query's future are hidden
    soft_cap  c, which scaled scores are bent below; None for no bend
    sinks     (H,), one more score for every query of a head; None for none

    Returns (..., H, T, K), as wide as the values.
    """
    H, T, _ = q.shape[-3:]
    G, S, _ = k.shape[-3:]
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))  # its axes in q's order in memory
    ahead = 0 if causal else S if window is None else window - 1
    if bias is not None and bias.ndim == 2:
        bias = np.broadcast_to(bias[:, None], (H, T, S))
    for row in np.ndindex(q.shape[:-3]):
        for heads, groups in _heads_together(H, G):
            for start in range(0, T, QUERY_BLOCK):
                block = slice(start, start + QUERY_BLOCK)
                out[row][heads, block] = _attend(
                    q[row][heads, block],
                    k[row][groups],
                    v[row][groups],
                    scale,
                    None if bias is None else bias[heads, block],
                    window,
                    ahead,
                    first=S - T + start,
                    soft_cap=soft_cap,
                    sink=None if sinks is None else sinks[heads, None, None],
                )
    return out


def _heads_together(heads: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """Take a few heads of queries at a time, each with its own head of keys, or all with the same."""
    run = heads if groups == heads else heads // groups
    for first in range(0, heads, run):
        for start in range(first, first + run, HEADS_TOGETHER):
            some = slice(start, min(start + HEADS_TOGETHER, first + run))
            yield some, some if groups == heads else slice(first // run, first // run + 1)


def _attend(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    scale: float,
    bias: NDArray | None,
    window: int | None,
    ahead: int,
    first: int,
    soft_cap: float | None,
    sink: NDArray | None,
) -> NDArray:
    """Attend with one block of queries, standing at positions ``first``, ``first + 1``, …

    ahead  how many keys behind its own a query sees, 0 where the future is hidden
    sink   (some of H, 1, 1) or None
    """
    q = q * q.dtype.type(scale)
    last = first + q.shape[-2] - 1
    end = min(last + ahead + 1, k.shape[-2])  # no query of the block sees a key from ``end`` on
    queries = np.arange(first, last + 1)[:, None]
    behind = 0 if window is None else max(0, first - window + 1)  # none sees a key before ``behind``
    for start in range(behind, end, KEY_BLOCK):
        stop = min(start + KEY_BLOCK, end)
        scores = q @ k[:, start:stop].swapaxes(-1, -2)
        if soft_cap is not None:
            bend(scores, soft_cap)
        if bias is not None:
            scores += bias[..., start:stop]
        if stop > first + ahead + 1:  # the block reaches beyond what some of its queries see
            edge = max(first + ahead, start)
            beyond = np.arange(edge, stop) > queries + ahead
            np.copyto(scores[..., edge - start :], -np.inf, where=beyond)
        if window is not None and start <= last - window:  # it holds keys too old for some of them
            too_old = np.arange(start, stop) <= queries - window
            np.copyto(scores, -np.inf, where=too_old)
        largest_here = scores.max(axis=-1, keepdims=True)
        if start == behind:
            # A query may see nothing of its first block, where that lies before its window: a finite
            # maximum makes its weights exp(−inf) = 0, where −inf − (−inf) would make them NaN.
            largest = largest_here if window is None else np.maximum(largest_here, LOWEST)
            if sink is not None:
                largest = np.maximum(largest, sink)
            total, out = _weigh(scores, largest, v[:, start:stop])
            if sink is not None:
                total += np.exp(sink - largest)
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
