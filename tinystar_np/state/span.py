"""A span: the positions that the new tokens of a call take in each row of the batch.

Rows may stand at different lengths, since prompts differ: each row continues at its own. Nothing is padded,
so position p of a row is always its p-th token.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import causal_mask


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
        self._mask: NDArray[np.bool_] | None = None

    @property
    def last(self) -> "Span":
        """The position of the last new token of each row alone."""
        return Span(self.start + self.length - 1, 1)

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
        if self._mask is None:  # built once for all layers
            if self.uniform:
                self._mask = causal_mask(self.length, self.end)
            else:
                self._mask = np.arange(self.end) <= self.positions[:, None, :, None]
        return self._mask
