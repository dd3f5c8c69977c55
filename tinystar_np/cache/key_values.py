"""The keys and values of one attention layer: what earlier tokens offer to later ones.

A token's key and value never change once computed, because no token sees its future. Keeping them makes
the next token cost one row of work instead of the whole text again.
"""

import sys
from collections.abc import Mapping
from copy import copy
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import check_fit
from tinystar_np.cache.span import Span

FIRST_CAPACITY = 64
GROWTH = 1.5


class Seen(NamedTuple):
    """The keys and values that are in reach of a call's new tokens, their own included.

    keys, values  (B, G, S, K)
    positions     (S,), or (B, S) where they differ from row to row; negative ones stand for nothing
    """

    keys: NDArray
    values: NDArray
    positions: NDArray[np.int64]


class KeyValueState:
    """Keys and values of one layer, in arrays that have room for more tokens than they hold.

    When the room is used up, arrays half as large again take over. However long the text grows, a token is
    moved twice on average, and nothing is copied at the ordinary step.

    value_dim  K_v, the width of a value; None for that of a key

    keys, values  (B, G, room, K), (B, G, room, K_v)
    """

    most: int = sys.maxsize
    """How many tokens there will ever be room for."""
    rewindable: ClassVar[bool] = True  # what lies behind a row's length is overwritten and never looked at

    def __init__(
        self, batch_size: int, heads: int, head_dim: int, capacity: int = 0, value_dim: int | None = None
    ):
        # Zeros, not garbage: rows shorter than others leave gaps that get weight 0, and 0 · NaN is NaN.
        # The system hands out zeroed pages only when they are touched, so unused room costs no memory.
        self.keys: NDArray = np.zeros((batch_size, heads, capacity, head_dim), dtype=np.float32)
        width = head_dim if value_dim is None else value_dim
        self.values: NDArray = np.zeros((batch_size, heads, capacity, width), dtype=np.float32)

    @property
    def capacity(self) -> int:
        """How many tokens each row has room for."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes allocated, room included."""
        return self.keys.nbytes + self.values.nbytes

    def _make_room(self, tokens: int) -> None:
        """Have room for so many tokens in each row."""
        if tokens > self.capacity:
            capacity = max(tokens, min(self.most, max(FIRST_CAPACITY, int(self.capacity * GROWTH))))
            self.keys = _with_room(self.keys, capacity)
            self.values = _with_room(self.values, capacity)

    def append(self, k: NDArray, v: NDArray, span: Span) -> Seen:
        """Write the new tokens' keys and values behind those of each row.

        k, v  (B, G, T, K)
        span  where they go

        Returns all keys and values as views. What lies beyond a row's own length is not part of it: a mask
        must hide it.
        """
        self._make_room(span.end)
        keys, values = self.keys[:, :, : span.end], self.values[:, :, : span.end]
        if span.uniform:
            new = slice(span.start[0], span.end)
            keys[:, :, new] = k
            values[:, :, new] = v
        else:
            for b, start in enumerate(span.start):
                keys[b, :, start : start + span.length] = k[b]
                values[b, :, start : start + span.length] = v[b]
        return Seen(keys, values, np.arange(span.end))

    def commit(self) -> None:
        """Nothing waits: new tokens stand behind the old ones, and only their count makes them part of it."""

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        selected = copy(self)
        selected.keys, selected.values = self.keys[rows], self.values[rows]
        return selected

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        rows, room = sum(len(state.keys) for state in states), max(state.capacity for state in states)
        joined = copy(states[0])
        joined.keys, joined.values = (
            np.zeros((rows, held.shape[1], room, held.shape[3]), dtype=held.dtype)
            for held in (joined.keys, joined.values)
        )
        first = 0
        for state in states:
            target = np.s_[first : first + len(state.keys), :, : state.capacity]
            joined.keys[target] = state.keys
            joined.values[target] = state.values
            first += len(state.keys)
        return joined

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return keys and values without the room behind ``tokens``: each (B, G, tokens, K), views."""
        return {"keys": self.keys[:, :, :tokens], "values": self.values[:, :, :tokens]}

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Take over saved keys and values of ``tokens`` tokens; raises ValueError where they do not fit."""
        own, places = {"keys": self.keys, "values": self.values}, min(tokens, self.most)
        check_fit(arrays, {n: (a.dtype, (*a.shape[:2], places, a.shape[3])) for n, a in own.items()})
        self.keys, self.values = arrays["keys"], arrays["values"]


def _with_room(array: NDArray, capacity: int) -> NDArray:
    roomy = np.zeros((*array.shape[:2], capacity, array.shape[3]), dtype=array.dtype)
    roomy[:, :, : array.shape[2]] = array
    return roomy
