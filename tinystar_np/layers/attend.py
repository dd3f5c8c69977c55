"""What every attention layer does once it has queries and keys: mask, bias, attention, and its taps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.attention import bias_by_distance
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.relative_positions import relative_mean, relative_scores
from tinystar_np.state import Seen, Span
from tinystar_np.tap import listening, tap

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
    chunk: int | None = None,
    causal: bool = True,
    key_bias: KeyBias | None = None,
    distance_bias: DistanceBias | None = None,
    relative: RelativeVectors | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Let queries attend (B, H, T, K) → (B, H, T, K_v); taps ``attention.scores`` and ``.probabilities``."""
    k, v, positions = seen
    mask = mask_of(span, positions, window, chunk, causal)
    bias = bias_of(positions, span, q.shape[2], window, key_bias, distance_bias)
    if not listening():
        if relative is not None:
            return fast.relative_attention(q, k, v, mask, *relative, scale=scale, bias=bias)
        return fast.attention(q, k, v, mask, scale=scale, bias=bias, soft_cap=soft_cap, sinks=sinks)
    scores = fast.attention_scores(q, k, scale=scale, bias=bias, soft_cap=soft_cap)
    if relative is not None:
        scores += relative_scores(q, relative.keys, mask, scale=scale)
    probabilities = fast.attention_probabilities(tap("attention.scores", scores), mask, sinks)
    probabilities = tap("attention.probabilities", probabilities)
    mixed = fast.attention_mean(probabilities, v)
    if relative is not None:
        mixed += relative_mean(probabilities, relative.values, mask)
    return mixed


def mask_of(
    span: Span, positions: NDArray[np.int64], window: int | None, chunk: int | None, causal: bool
) -> Mask:
    """Make the mask of a call, once for all layers."""

    def make() -> Mask:
        return Mask(span.positions[0] if span.uniform else span.positions, positions, window, chunk, causal)

    return span.once(("mask", window, chunk, causal), make)


def bias_of(
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
