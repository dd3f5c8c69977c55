"""Attention: the definition for a few tokens, blocks of scores in threads for prompts.

For one token, or a few, the definition is faster: one call for all heads instead of one per block. For a
prompt, blocks of scores (kernels/blockwise_attention.py) stay in a core's second-level cache, blocks that the
mask hides altogether are never computed, and heads are divided among threads.

Blocks of few queries leave out most of what a causal mask or a window hides. Where nothing is hidden, as
among the patches of an image, blocks are taller and wider, of one head at a time: BLAS multiplies them
faster, and up to ``WHOLE_KEYS`` keys no sum is re-based.

    ns per score, one core with 1 MB of second-level cache, K = 64   256   577  1024  4096 tokens
    8 heads, 64 queries, 512 keys                                    3.2   2.9   2.7   3.2
    1 head, cut evenly                                               2.5   2.1   2.2   2.3
"""

from collections.abc import Callable, Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.attention_parts import Part, Positions, Reach, parts_of
from tinystar_np.fast.elementwise import softmax
from tinystar_np.fast.remembered import remembered
from tinystar_np.fast.threads import divided, head_slices
from tinystar_np.kernels.attention import attention_mean
from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.kernels.softmax import LOWEST

QUERY_BLOCK = 64
KEY_BLOCK = 512
HEADS_TOGETHER = 8
SCORES_IN_CACHE = HEADS_TOGETHER * QUERY_BLOCK * KEY_BLOCK
"""1 MB of float32, about what a core's second-level cache holds."""
WHOLE_KEYS = 1024


def attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: Mask | None,
    *,
    scale: float,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Compute attention: (B, H, T, K), (B, G, S, K), (B, G, S, K_v) → (B, H, T, K_v)."""
    parts = parts_of(q, k, mask)
    if parts is None:
        scores = attention_scores(q, k, scale=scale, bias=bias, soft_cap=soft_cap)
        return attention_mean(attention_probabilities(scores, mask, sinks), v)

    def form(heads: slice, q: NDArray, k: NDArray, v: NDArray, reach: Reach, bias: NDArray | None) -> NDArray:
        own_sinks = None if sinks is None else sinks[heads]
        return _blockwise(q, k, v, reach, scale, bias, soft_cap, own_sinks)

    return in_parts(form, parts, q, k, v, bias)


def attention_scores(
    q: NDArray, k: NDArray, *, scale: float, bias: NDArray | None = None, soft_cap: float | None = None
) -> NDArray:
    """Compare every query with the keys of its group: (..., H, T, K), (..., G, S, K) → (..., H, T, S)."""
    *batch, H, T, K = q.shape
    G = k.shape[-3]
    # The query is scaled, not the scores: K numbers per token instead of S.
    grouped = (q * q.dtype.type(scale)).reshape(*batch, G, H // G * T, K)
    scores = (grouped @ k.swapaxes(-1, -2)).reshape(*batch, H, T, k.shape[-2])
    if soft_cap is not None:
        cap(scores, soft_cap)
    if bias is not None:
        scores += bias if bias.ndim == scores.ndim else bias[..., None, :]
    return scores


def cap(scores: NDArray, soft_cap: float) -> None:
    """Replace scores by c · tanh(scores / c), in place."""
    scores /= scores.dtype.type(soft_cap)
    np.tanh(scores, out=scores)
    scores *= scores.dtype.type(soft_cap)


def attention_probabilities(scores: NDArray, mask: Mask | None, sinks: NDArray | None = None) -> NDArray:
    """Take the softmax of the scores, 0 where a key is hidden: (..., H, T, S) → (..., H, T, S)."""
    shown = None if mask is None else _shown(*mask)
    masked = scores if shown is None else np.where(shown, scores, scores.dtype.type(-np.inf))
    return softmax(masked, None if sinks is None else sinks[:, None, None])


@remembered
def _shown(
    queries: Positions,
    keys: Positions,
    window: int | None,
    chunk: int | None,
    causal: bool,
    query_groups: Positions | None,
    key_groups: Positions | None,
    groups_in_window: bool,
) -> NDArray[np.bool_] | None:
    """Return which keys are visible, as ``visible`` does; None where all are."""
    shown = visible(Mask(queries, keys, window, chunk, causal, query_groups, key_groups, groups_in_window))
    return None if shown.all() else shown


Form = Callable[[slice, NDArray, NDArray, NDArray, Reach, NDArray | None], NDArray]
"""From heads, their q (h, T, K), k and v (g, S, K), reach and bias (h, 1 or T, S) to (h, T, K_v)."""


def in_parts(
    form: Form, parts: list[Part], q: NDArray, k: NDArray, v: NDArray, bias: NDArray | None
) -> NDArray:
    """Compute attention part by part and row by row, the heads divided among threads."""
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))  # its axes in q's order in memory
    by_row = None if bias is None else bias_by_row(bias, len(q))

    def some_heads(share: tuple[slice, slice]) -> None:
        heads, kv_heads = share
        for row, queries, keys, reach in parts:
            for b in range(len(q)) if row is None else (row,):
                own = None
                if by_row is not None:
                    own = by_row[b, heads, :, keys]
                    own = own if own.shape[1] == 1 else own[:, queries]
                out[b, heads, queries] = form(
                    heads, q[b, heads, queries], k[b, kv_heads, keys], v[b, kv_heads, keys], reach, own
                )

    # Where queries see later keys too, a token is twice the work that it is in a causal text: 16 heads took
    # 3.0 ms for the 256 patches of an image, and 1.8 in two threads.
    causal = all(part.reach.after == 0 for part in parts)
    rows = len(q) * q.shape[2] * (1 if causal else 2)
    divided(some_heads, head_slices(q.shape[1], k.shape[1], rows))
    return out


def bias_by_row(bias: NDArray, rows: int) -> NDArray:
    """See a bias (H, S), (B, H, S) or (1 or B, H, T, S) as (B, H, 1 or T, S)."""
    if bias.ndim == 2:
        bias = bias[None]
    if bias.ndim == 3:
        bias = bias[:, :, None]
    return np.broadcast_to(bias, (rows, *bias.shape[1:]))


def _heads_together(heads: int, kv_heads: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Take a few query heads at a time, each with its own key/value head, or all with the same."""
    run = heads if kv_heads == heads else heads // kv_heads
    for first in range(0, heads, run):
        for start in range(first, first + run, most):
            some = slice(start, min(start + most, first + run))
            yield some, some if kv_heads == heads else slice(first // run, first // run + 1)


def _blockwise(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    reach: Reach,
    scale: float,
    bias: NDArray | None,
    soft_cap: float | None,
    sinks: NDArray | None,
) -> NDArray:
    """Compute ``blockwise_attention`` of one row, in blocks that stay in cache."""
    H, T, _ = q.shape
    S = k.shape[-2]
    out = np.empty_like(q, shape=(H, T, v.shape[-1]))
    all_visible = reach.offset + T - 1 <= reach.before and reach.offset + reach.after >= S - 1
    together, rows, keys = _large_block(T, S) if all_visible else (HEADS_TOGETHER, QUERY_BLOCK, KEY_BLOCK)
    # For the scores of one block after another.
    room = np.empty(min(together, H) * min(rows, T) * min(keys, S), q.dtype)
    for heads, kv_heads in _heads_together(H, len(k), together):
        for start in range(0, T, rows):
            some = slice(start, start + rows)
            out[heads, some] = _attend_to_blocks(
                q[heads, some] * q.dtype.type(scale),
                k[kv_heads],
                v[kv_heads],
                reach._replace(offset=reach.offset + start),
                None if bias is None else bias[heads] if bias.shape[1] == 1 else bias[heads, some],
                soft_cap,
                None if sinks is None else sinks[heads, None, None],
                room,
                keys,
            )
    return out


def _large_block(T: int, S: int) -> tuple[int, int, int]:
    """Return how many heads, queries and keys a block has where every key is visible."""
    keys = _even(S, WHOLE_KEYS)
    return 1, _even(T, max(QUERY_BLOCK, SCORES_IN_CACHE // keys)), keys


def _even(count: int, most: int) -> int:
    """Divide a count into as few parts of at most ``most`` as possible, and return the size of each."""
    return -(-count // -(-count // most))


def _attend_to_blocks(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    reach: Reach,
    bias: NDArray | None,
    soft_cap: float | None,
    sink: NDArray | None,
    room: NDArray,
    key_block: int,
) -> NDArray:
    """Compute attention for one block of scaled queries; the sums of kernels/blockwise_attention.py.

    room       memory for scores, which are overwritten
    key_block  keys at once
    """
    first, before, after = reach
    last = first + q.shape[-2] - 1
    end = min(last + after + 1, k.shape[-2])  # keys from here on are hidden from the whole block
    begin = max(0, first - before)  # as are those before this one
    places = np.arange(first, last + 1)[:, None]
    for start in range(begin, end, key_block):
        stop = min(start + key_block, end)
        shape = *q.shape[:-1], stop - start
        scores = np.matmul(q, k[:, start:stop].swapaxes(-1, -2), out=room[: prod(shape)].reshape(shape))
        if soft_cap is not None:
            cap(scores, soft_cap)
        if bias is not None:
            scores += bias[..., start:stop]
        if stop > first + after + 1:  # some keys are too late for some queries
            edge = max(first + after, start)
            np.copyto(scores[..., edge - start :], -np.inf, where=np.arange(edge, stop) > places + after)
        if start < last - before:  # some keys are before some queries' window
            np.copyto(scores, -np.inf, where=np.arange(start, stop) < places - before)
        largest_here = scores.max(axis=-1, keepdims=True)
        if start == begin:
            # All keys of a query's first block may be hidden: a finite maximum makes its weights
            # exp(−inf) = 0, where −inf − (−inf) would make them NaN.
            largest = np.maximum(largest_here, LOWEST if sink is None else sink)
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
