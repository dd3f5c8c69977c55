"""Blockwise attention: the softmax over a long text, taken a block of keys at a time.

A softmax seems to need all scores at once, for their largest and their sum. It does not: walk over the keys a
block at a time, and keep for each query the largest score m so far, the sum n of the weights and the sum o of
the weighted values, both relative to m.

    m' = max(m, max(s))     c = exp(m − m')     p = exp(s − m')
    n' = c n + Σ p          o' = c o + p v          result: o / n

The factor c re-bases what was summed under a smaller maximum, so the result is the same sum as in the
definition, in another order. Memory is one block of scores, whatever the length of the text, and blocks that
the mask hides altogether, in the future or before the window, are never computed. Milakov & Gimelshein 2018,
arXiv:1805.02867; Rabe & Staats 2021, arXiv:2112.05682; FlashAttention (Dao et al. 2022, arXiv:2205.14135) is
this in a graphics processor's memory.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import capped
from tinystar_np.kernels.softmax import LOWEST

QUERY_BLOCK = 64
KEY_BLOCK = 512


class Block(NamedTuple):
    """Which keys a block of queries attends to; places are counted from the first key.

    first   place of the first query
    before  how many earlier keys a query may attend to; None for all
    after   how many later keys a query may attend to: 0 where the future is hidden
    """

    first: int
    before: int | None
    after: int


def blockwise_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    *,
    scale: float,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
    window: int | None = None,
    causal: bool = True,
    offset: int | None = None,
) -> NDArray:
    """Compute ``attention`` a block of scores at a time, for queries and keys at consecutive positions.

    q         (..., H, T, K)
    k         (..., G, S, K), where G divides H; queries of neighbouring heads share a group
    v         (..., G, S, K), or of another width than q and k
    scale     what the products q·k are multiplied by
    bias      (H, S), for every query alike, or (H, T, S), added to the scaled scores; None for nothing
    soft_cap  c, within which scaled scores are kept; None for no cap
    sinks     (H,), one more score for every query of a head; None for none
    window    W: a query attends to keys fewer than W positions away, its own included; None for no limit
    causal    whether keys in a query's future are hidden
    offset    the key that stands where the first query does; None for S − T: queries and keys end together

    Returns (..., H, T, K), as wide as the values.

    >>> q = k = np.zeros((1, 3, 1))  # all scores equal: each query takes the mean of the values so far
    >>> v = np.array([[[0.0], [2.0], [4.0]]])
    >>> blockwise_attention(q, k, v, scale=1.0).tolist()
    [[[0.0], [1.0], [2.0]]]
    >>> blockwise_attention(q, k, v, scale=1.0, window=2).tolist()
    [[[0.0], [1.0], [3.0]]]
    """
    H, T, _ = q.shape[-3:]
    G, S, _ = k.shape[-3:]
    R = H // G
    offset = S - T if offset is None else offset
    before = None if window is None else window - 1
    after = 0 if causal else S if before is None else before
    if bias is not None and bias.ndim == 2:
        bias = np.broadcast_to(bias[:, None], (H, T, S))
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    for *row, g in np.ndindex(k.shape[:-2]):
        heads = (*row, slice(g * R, (g + 1) * R))
        for start in range(0, T, QUERY_BLOCK):
            some = slice(start, start + QUERY_BLOCK)
            out[heads][:, some] = attend_to_blocks(
                q[heads][:, some],
                k[(*row, slice(g, g + 1))],
                v[(*row, slice(g, g + 1))],
                Block(offset + start, before, after),
                scale=scale,
                bias=None if bias is None else bias[heads[-1], some],
                soft_cap=soft_cap,
                sink=None if sinks is None else sinks[heads[-1], None, None],
            )
    return out


def attend_to_blocks(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    block: Block,
    *,
    scale: float,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sink: NDArray | None = None,
) -> NDArray:
    """Compute attention for one block of queries, a block of keys at a time.

    q     (h, T, K)
    k, v  (h, S, K), or (1, S, K) for all heads
    bias  (h, T, S) or None
    sink  (h, 1, 1) or None

    Returns (h, T, K), a new array.

    >>> k, v = np.zeros((1, 4, 1)), np.array([[[0.0], [2.0], [4.0], [9.0]]])
    >>> block = Block(first=2, before=1, after=0)  # one query, at key 2, attends to keys 1 and 2
    >>> attend_to_blocks(np.zeros((1, 1, 1)), k, v, block, scale=1.0).tolist()
    [[[3.0]]]
    """
    q = q * q.dtype.type(scale)
    first, before, after = block
    places = np.arange(first, first + q.shape[-2])[:, None]
    end = min(first + q.shape[-2] + after, k.shape[-2])  # keys from here on are hidden from the whole block
    begin = 0 if before is None else max(0, first - before)  # as are those before this one
    largest = np.full((*q.shape[:-1], 1), LOWEST, q.dtype)
    if sink is not None:
        largest = np.maximum(largest, sink)
    total = np.zeros_like(largest) if sink is None else np.exp(sink - largest)
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for start in range(begin, end, KEY_BLOCK):
        stop = min(start + KEY_BLOCK, end)
        scores = q @ k[:, start:stop].swapaxes(-1, -2)
        if soft_cap is not None:
            scores = capped(scores, soft_cap)
        if bias is not None:
            scores += bias[..., start:stop]
        keys = np.arange(start, stop)
        if stop - 1 > first + after:  # some keys are too late for some queries
            scores = np.where(keys <= places + after, scores, scores.dtype.type(-np.inf))
        if before is not None and start < places[-1] - before:  # some keys are before some queries' window
            scores = np.where(keys >= places - before, scores, scores.dtype.type(-np.inf))
        previous, largest = largest, np.maximum(largest, scores.max(axis=-1, keepdims=True))
        rebase = np.exp(previous - largest)
        weights = np.exp(scores - largest)
        total = rebase * total + weights.sum(axis=-1, keepdims=True)
        out = rebase * out + weights @ v[:, start:stop]
    return out / np.maximum(total, np.finfo(q.dtype).tiny)
