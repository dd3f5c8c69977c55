"""A span: the positions that the new tokens of a call take in each row of the batch.

Rows may stand at different lengths, since prompts differ: each row continues at its own. Nothing is padded,
so position p of a row is always its p-th token.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import causal_mask

Value = TypeVar("Value")


class Span:
    """T new tokens behind ``start[b]`` earlier ones in each row b.

    start   (B,) ints
    length  T
    """

    def __init__(self, start: NDArray[np.int64], length: int):
        self.start = start
        self.length = length
        self.uniform = bool((start == start[0]).all())
        """Whether all rows stand at the same length."""
        self.end = int(start.max()) + length
        """S, the positions of the longest row once the new tokens are in."""
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return what ``make`` makes, made when first asked for and kept for all layers."""
        if key not in self._kept:
            self._kept[key] = make()
        value: Value = self._kept[key]
        return value

    @property
    def last(self) -> "Span":
        """The position of the last new token of each row alone."""
        return self.once("last", lambda: Span(self.start + self.length - 1, 1))

    @property
    def positions(self) -> NDArray[np.int64]:
        """The position of every new token: (B, T)."""
        return self.start[:, None] + np.arange(self.length)

    def mask(self) -> NDArray[np.bool_] | None:
        """Say which of S keys each new token may see: (T, S), or (B, 1, T, S) where rows differ in length.

        None where every token may see every key: one new token behind rows of equal length.
        """
        if self.uniform and self.length == 1:
            return None
        return self.once("mask", self._mask)

    def _mask(self) -> NDArray[np.bool_]:
        if self.uniform:
            return causal_mask(self.length, self.end)
        return np.arange(self.end) <= self.positions[:, None, :, None]
