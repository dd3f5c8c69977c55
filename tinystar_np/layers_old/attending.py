"""Which form of attention runs: the choice that every attention layer makes once it has queries and keys."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Seen, Span
from tinystar_np.kernels.attention import (
    attention_mean,
    attention_probabilities,
    attention_scores,
    bias_by_distance,
    bidirectional_mask,
    blockwise_attention,
)
from tinystar_np.kernels.relative_positions import (
    blockwise_relative_attention,
    relative_index,
    relative_mean,
    relative_scores,
)
from tinystar_np.tap import listening, tap
from tinystar_np.threads import divided, head_slices

# Below this many scores per head the definition is faster: one call for all heads instead of one per block.
PLAIN_SCORES = 64 * 64

KeyBias = Callable[[NDArray], NDArray]
"""Maps positions of keys (n,) to what is added to their scores (H, n), such as ALiBi."""
DistanceBias = Callable[[NDArray], NDArray]
"""Maps distances from query to key (n,), negative where the key came first, to what is added (H, n)."""


class RelativeVectors(NamedTuple):
    """What the distances −C … C between query and key add to keys and to values: (2C + 1, K) each."""

    keys: NDArray
    values: NDArray


def attend(
    q: NDArray,
    seen: Seen,
    span: Span,
    *,
    scale: float,
    window: int | None = None,
    causal: bool = True,
    key_bias: KeyBias | None = None,
    distance_bias: DistanceBias | None = None,
    relative: RelativeVectors | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Let queries attend: by the definition where it is cheap or somebody looks, in blocks elsewhere.

    q              (B, H, T, K)
    seen           keys (B, G, S, K), values (B, G, S, K_v), where G divides H, and their positions
    span           the positions of the T queries
    scale          what the products q·k are multiplied by
    window         W: a token sees those fewer than W positions away, its own included; None for no limit
    causal         whether a token sees none behind it; if not, the queries are the last of the S positions
    key_bias       adds to the scores by the keys' positions; None for nothing
    distance_bias  instead of it where not causal: adds by the distances from queries to keys
    relative       adds to keys and values by the distances; None for nothing
    soft_cap       c, which scaled scores are bent below; None for no bend
    sinks          (H,), one more score for every query of a head; None for none

    Returns (B, H, T, K_v). Taps ``attention.scores`` and ``attention.probabilities``.
    """
    k, v, positions = seen
    T, S = q.shape[2], k.shape[2]
    bias = _bias(positions, span, T, window, key_bias, distance_bias)
    if T == 1 or T * S <= PLAIN_SCORES or listening():
        mask = span.old_mask(positions, window) if causal else _mask_both_ways(span, T, S, window)
        scores = attention_scores(q, k, scale, bias, soft_cap)
        if relative is not None:
            index = _relative_index(positions, span, window, len(relative.keys) // 2)
            scores += relative_scores(q, relative.keys, index, scale)
        scores = tap("attention.scores", scores)
        probabilities = tap("attention.probabilities", attention_probabilities(scores, mask, sinks))
        mixed = attention_mean(probabilities, v)
        if relative is not None:
            mixed += relative_mean(probabilities, index, relative.values)
        return mixed

    if relative is None:
        form = partial(blockwise_attention, soft_cap=soft_cap)
    else:
        form = partial(blockwise_relative_attention, key_vectors=relative.keys, value_vectors=relative.values)
    form = partial(form, scale=scale, window=window, causal=causal)
    by_head = {"sinks": sinks}
    if span.uniform:
        by_head["bias"] = bias[0] if bias is not None and bias.ndim == 4 else bias
        return _in_threads(form, q, k, v, by_head)
    mixed = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))
    for b, end in enumerate(span.start + span.length):
        own = positions if positions.ndim == 1 else positions[b]  # in order
        held = slice(int(np.searchsorted(own, 0)), int(np.searchsorted(own, end)))
        row = slice(b, b + 1)
        by_head["bias"] = None if bias is None else (bias if positions.ndim == 1 else bias[b])[:, held]
        mixed[row] = _in_threads(form, q[row], k[row, :, held], v[row, :, held], by_head)
    return mixed


def _in_threads(
    form: Callable[..., NDArray],
    q: NDArray,
    k: NDArray,
    v: NDArray,
    by_head: Mapping[str, NDArray | None],
) -> NDArray:
    """Attend in blocks, the heads divided among threads.

    by_head  further arguments whose first axis is that of the heads; those that are None are not passed
    """
    mixed = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))

    def some_of(part: tuple[slice, slice]) -> None:
        heads, groups = part
        own = {name: array[heads] for name, array in by_head.items() if array is not None}
        mixed[:, heads] = form(q[:, heads], k[:, groups], v[:, groups], **own)

    divided(some_of, head_slices(q.shape[1], k.shape[1], q.shape[2]))
    return mixed


def _bias(
    positions: NDArray[np.int64],
    span: Span,
    queries: int,
    window: int | None,
    key_bias: KeyBias | None,
    distance_bias: DistanceBias | None,
) -> NDArray | None:
    """Make what is added to the scores: (H, S), (B, H, S) where rows differ, or by distance (1, H, T, S)."""
    if key_bias is not None:

        def by_key() -> NDArray:
            bias = key_bias(positions.ravel())
            return np.moveaxis(bias.reshape(-1, *positions.shape), 0, -2)

        return span.once((key_bias, window), by_key)
    if distance_bias is not None:

        def by_distance() -> NDArray:
            table = distance_bias(np.arange(1 - positions.size, queries))
            return bias_by_distance(table, queries)[None]

        return span.once(distance_bias, by_distance)
    return None


def _mask_both_ways(span: Span, queries: int, keys: int, window: int | None) -> NDArray[np.bool_] | None:
    if window is None or window >= keys:
        return None
    return span.once(("both ways", window), partial(bidirectional_mask, queries, keys, window))


def _relative_index(
    positions: NDArray[np.int64], span: Span, window: int | None, furthest: int
) -> NDArray[np.integer]:
    """Say which vector belongs to each query and key: (T, S), or (B, 1, T, S) where rows differ in length."""

    def make() -> NDArray[np.integer]:
        if span.uniform:
            return relative_index(span.positions[0], positions, furthest)
        keys = positions if positions.ndim == 2 else positions[None]
        return relative_index(span.positions[:, None], keys[:, None], furthest)

    return span.once(("relative", furthest, window), make)
