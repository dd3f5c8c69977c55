"""The keys and values of one attention layer: what earlier tokens offer to later ones.

A token's key and value never change once computed, because no token sees its future. Keeping them makes the
next token cost one row of work instead of the whole text again.

Layers that see a window or a chunk only keep fewer: cache/windows.py.
"""

import sys
from collections.abc import Mapping
from copy import copy
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import LayerState, check_fit
from tinystar_np.cache.step import Positions, Step

FIRST_CAPACITY = 64
GROWTH = 1.5
InReach = tuple[NDArray, NDArray, Positions]
"""Keys (B, G, S, K), values (B, G, S, K_v), and their positions: (S,), or (B, S) where rows differ; a
negative position stands for no token."""


class KeyValueState(LayerState):
    """Keys and values of one layer, in arrays that have room for more tokens than they hold.

    When the room is used up, arrays half as large again take over. However long the text grows, a token is
    moved twice on average, and nothing is copied at the ordinary step.

    value_dim  K_v, the width of a value; None for that of a key, 0 where keys are all that is kept (latents)

    keys, values  (B, G, room, K), (B, G, room, K_v)
    """

    most: int = sys.maxsize
    """How many tokens there will ever be room for."""
    by_token: ClassVar[bool] = True
    """Whether the n-th place is that of the n-th token; texts that begin alike can then share places."""
    rewindable: ClassVar[bool] = True  # what lies after a row's length is overwritten and never looked at

    def __init__(
        self, batch_size: int, kv_heads: int, head_dim: int, capacity: int = 0, value_dim: int | None = None
    ):
        # Zeros, not garbage: rows shorter than others leave gaps that get weight 0, and 0 · NaN is NaN.
        # The system hands out zeroed pages only when they are touched, so unused room costs no memory.
        self.keys: NDArray = np.zeros((batch_size, kv_heads, capacity, head_dim), dtype=np.float32)
        width = head_dim if value_dim is None else value_dim
        self.values: NDArray = np.zeros((batch_size, kv_heads, capacity, width), dtype=np.float32)

    @property
    def capacity(self) -> int:
        """How many tokens each row has room for."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes allocated, room included."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, k: NDArray, v: NDArray, step: Step) -> InReach:
        """Write the new tokens' keys and values, (B, G, T, K) each, after those of each row.

        Returns all keys and values, as views. What lies beyond a row's own length is not part of it: a mask
        must hide it.
        """
        self._make_room(step.end)
        keys, values = self.keys[:, :, : step.end], self.values[:, :, : step.end]
        if step.uniform:
            keys[:, :, step.start[0] :] = k
            values[:, :, step.start[0] :] = v
        else:
            for b, start in enumerate(step.start):
                keys[b, :, start : start + step.length] = k[b]
                values[b, :, start : start + step.length] = v[b]
        return keys, values, np.arange(step.end)

    def commit(self) -> None:
        """Nothing waits: new tokens stand after the old ones, and only their count makes them part of it."""

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        selected = copy(self)
        selected.keys, selected.values = self.keys[rows], self.values[rows]
        return selected

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        room = max(state.capacity for state in states)
        joined = copy(states[0])
        joined.keys = np.concatenate([with_room(state.keys, room) for state in states])
        joined.values = np.concatenate([with_room(state.values, room) for state in states])
        return joined

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return keys and values without the room after ``tokens``: each (B, G, tokens, K), views."""
        self._make_room(min(tokens, self.most))  # where some are counted but not read (models/cut_groups.py)
        return {"keys": self.keys[:, :, :tokens], "values": self.values[:, :, :tokens]}

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Copy saved keys and values of ``tokens`` tokens; raises ValueError where they do not fit."""
        own, places = {"keys": self.keys, "values": self.values}, min(tokens, self.most)
        check_fit(arrays, {n: (a.dtype, (*a.shape[:2], places, a.shape[3])) for n, a in own.items()})
        self.keys, self.values = arrays["keys"].copy(), arrays["values"].copy()

    def _make_room(self, tokens: int) -> None:
        """Have room for so many tokens in each row."""
        if tokens > self.capacity:
            capacity = max(tokens, min(self.most, max(FIRST_CAPACITY, int(self.capacity * GROWTH))))
            self.keys, self.values = with_room(self.keys, capacity), with_room(self.values, capacity)


def with_room(array: NDArray, capacity: int) -> NDArray:
    """Copy vectors (..., S, K), such as keys or values, to where more of them have room."""
    *rows, length, width = array.shape
    roomy = np.zeros((*rows, capacity, width), dtype=array.dtype)
    roomy[..., :length, :] = array
    return roomy
