"""A span: the positions that the new tokens of a call take in each row of the batch.

Rows may stand at different lengths, since prompts differ: each row continues at its own. Nothing is padded,
so position p of a row is always its p-th token.
"""

from collections.abc import Callable, Hashable
from copy import copy
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import causal_mask

Value = TypeVar("Value")


class KeysAndValues(Protocol):
    """What remembers keys and values."""

    def append(self, k: NDArray, v: NDArray, span: "Span") -> tuple[NDArray, NDArray, NDArray[np.int64]]:
        """Take in the new tokens' keys and values; return all in reach, and their positions."""


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
        self.only_last = False
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
    def row_positions(self) -> NDArray[np.int64]:
        """The position of every new token: (T,), or (B, T) where rows stand at different lengths."""
        return self.positions[0] if self.uniform else self.positions

    def remember(
        self, k: NDArray, v: NDArray, state: "KeysAndValues | None"
    ) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
        """Add the new tokens' keys and values to those of a layer; return all in reach and their positions."""
        return (k, v, np.arange(self.end)) if state is None else state.append(k, v, self)

    def for_last_token(self) -> "Span":
        """Return this step as the last block has it where only the last token's logits are asked for."""
        step = copy(self)
        step.only_last = True
        return step

    @property
    def queries(self) -> "Span":
        """The tokens whose result somebody wants: all, or in the last block of a prompt its last token."""
        return self.last if self.only_last else self

    def wanted(self, x: NDArray) -> NDArray:
        """Take the vectors of those tokens: (B, T, D) → (B, T, D), or (B, 1, D)."""
        return x[:, -1:] if self.only_last else x

    @property
    def text_lengths(self) -> NDArray[np.int64]:
        """The length of each row's whole text: (B,)."""
        return self.start + self.length if self._text_lengths is None else self._text_lengths

    @property
    def positions(self) -> NDArray[np.int64]:
        """The position of every new token: (B, T)."""
        return self.start[:, None] + np.arange(self.length)

    def mask(self, keys: NDArray[np.int64], window: int | None = None) -> NDArray[np.bool_] | None:
        """Say which keys each new token may see: those up to itself, and not ``window`` or more before it.

        keys    the positions of the keys: (S,), or (B, S) where they differ from row to row; negative ones
                stand for nothing. Where rows are of equal length the last is that of the last token, or (for
                one token, which sees all of them) in any order.
        window  W, how many positions a token sees, its own included; None for all

        Returns (T, S), or (B, 1, T, S) where rows differ in length; None where every key may be seen.
        """
        return self.once(("mask", window), lambda: self._mask(keys, window))

    def _mask(self, keys: NDArray[np.int64], window: int | None) -> NDArray[np.bool_] | None:
        if self.uniform:
            seen_by_one = keys.shape[-1] if window is None else min(keys.shape[-1], window)
            if self.length == 1 and seen_by_one == keys.shape[-1]:
                return None
            return causal_mask(self.length, keys.shape[-1], window)
        keys = keys if keys.ndim == 2 else keys[None]
        distance = self.positions[:, :, None] - keys[:, None]  # (B, T, S)
        seen = (distance >= 0) & (keys[:, None] >= 0)
        if window is not None:
            seen &= distance < window
        return seen[:, None]


Step = Span
