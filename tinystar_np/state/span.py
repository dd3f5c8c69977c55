"""A span: the positions that the new tokens of a call take in each row of the batch.

Rows may stand at different lengths, since prompts differ: each row continues at its own. Nothing is padded,
so position p of a row is always its p-th token.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")


class Span:
    """T new tokens behind ``start[b]`` earlier ones in each row b.

    start         (B,) ints
    length        T
    text_lengths  (B,) the length of the text that each row's new tokens are a part of, by which rotations go
                  that depend on it; None where the text ends with them
    """

    def __init__(self, start: NDArray[np.int64], length: int, text_lengths: NDArray[np.int64] | None = None):
        self.start = start
        self.length = length
        self._text_lengths = text_lengths
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
        return self.once("last", lambda: Span(self.start + self.length - 1, 1, self._text_lengths))

    @property
    def text_lengths(self) -> NDArray[np.int64]:
        """The length of each row's whole text: (B,)."""
        return self.start + self.length if self._text_lengths is None else self._text_lengths

    @property
    def positions(self) -> NDArray[np.int64]:
        """The position of every new token: (B, T)."""
        return self.start[:, None] + np.arange(self.length)
