"""Rotary positions: the tables of one model call, and the turning of queries and keys by them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.rope import (
    halves_tables,
    neighbours_table,
    rotary_angles,
    rotate_halves,
    rotate_neighbours,
)
from tinystar_np.state import Span

Frequencies = NDArray[np.float32] | Callable[[int], NDArray[np.float32]]
"""(J,), or what makes them from the length of a text: its earlier tokens and the new ones."""


class Rotary:
    """Turns queries and keys by their positions. Layers that share one share its tables of a call.

    frequencies       one per pair; 2J ≤ K, and numbers of a head from 2J on are left as they are
    attention_factor  what cosines and sines are multiplied by: yarn and longrope lengthen queries and keys
    interleaved       whether neighbours make a pair; otherwise x_j and x_J+j do

    Where frequencies depend on the length, each row of a batch has those of its own length, as if alone.
    Keys in a cache stay as they were turned when they came, so that a text in pieces may differ from the
    same text at once: transformers does the same.
    """

    def __init__(self, frequencies: Frequencies, *, attention_factor: float = 1.0, interleaved: bool = False):
        self.frequencies = frequencies
        self.attention_factor = attention_factor
        self.interleaved = interleaved

    def __call__(self, x: NDArray, span: Span) -> NDArray:
        """Turn queries or keys.

        x     (B, H, T, K)
        span  the positions that the T tokens take

        Returns (B, H, T, K), a new contiguous array.
        """
        tables = span.once(self, lambda: self._tables(span))
        if self.interleaved:
            return rotate_neighbours(x, *tables)
        return rotate_halves(x, *tables)

    def _tables(self, span: Span) -> tuple[NDArray, ...]:
        """Make the kernel's tables: (T, ·), or (B, 1, T, ·) where rows stand at different positions."""
        if span.uniform:
            angles = rotary_angles(span.positions[0], self._frequencies(span.end))
        else:
            rows = np.stack([self._frequencies(int(start) + span.length) for start in span.start])  # (B, J)
            angles = rotary_angles(span.positions[:, None], rows[:, None, None])
        scale = np.float32(self.attention_factor)
        cos, sin = np.cos(angles) * scale, np.sin(angles) * scale
        return (neighbours_table(cos, sin),) if self.interleaved else halves_tables(cos, sin)

    def _frequencies(self, length: int) -> NDArray[np.float32]:
        return self.frequencies(length) if callable(self.frequencies) else self.frequencies
