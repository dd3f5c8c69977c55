"""Entries: one vector for each window of m tokens, and sums of the window that is not full yet.

How many entries a row has follows from its length, ⌊tokens / m⌋. So new ones are written after those, as keys
are, and count only when the row's length does; the sums wait until then.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.keys_and_values import GROWTH, with_room
from tinystar_np.cache.layer_state import check_fit
from tinystar_np.cache.recurrent import RecurrentState

FIRST_ROOM = 16


class EntriesState(RecurrentState):
    """Entries of one layer, and named arrays of fixed size beside them.

    rows, width  B, K
    every        m
    capacity     tokens to make room for at once
    arrays       as of ``RecurrentState``

    entries      (B, room, K)
    """

    def __init__(self, rows: int, width: int, every: int, capacity: int, **arrays: NDArray):
        super().__init__(**arrays)
        self.every = every
        # Zeros: beyond a row's own entries weights are 0, and 0 · NaN is NaN.
        self.entries: NDArray = np.zeros((rows, capacity // every, width), dtype=np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes allocated, room included."""
        return super().nbytes + self.entries.nbytes

    def append(self, new: NDArray, first: NDArray[np.integer], count: int) -> NDArray:
        """Write new entries (B, n, K), in each row from number ``first[b]`` on, over what was not yet full.

        Returns the first ``count`` entries of all rows, (B, count, K), a view. Beyond a row's own may stand
        anything: a mask must hide it.
        """
        self._make_room(int(first.max()) + new.shape[1])
        for row, entries, start in zip(self.entries, new, first.tolist(), strict=True):
            row[start : start + len(entries)] = entries
        return self.entries[:, :count]

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        selected = super().select(rows)
        selected.entries = self.entries[rows]
        return selected

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        joined = super().join(states)
        room = max(state.entries.shape[1] for state in states)
        joined.entries = np.concatenate([with_room(state.entries, room) for state in states])
        return joined

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return the arrays, and the entries of rows that hold up to ``tokens`` tokens."""
        count = tokens // self.every
        self._make_room(count)
        return {**super().arrays(tokens), "entries": self.entries[:, :count]}

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Copy saved arrays; raises ValueError where they do not fit this layer."""
        check_fit(arrays, {name: (own.dtype, own.shape) for name, own in self.arrays(tokens).items()})
        copies = {name: array.copy() for name, array in arrays.items()}
        self.entries = copies.pop("entries")
        self._arrays, self._waiting = dict(copies), {}

    def _make_room(self, count: int) -> None:
        """Have room for so many entries in each row."""
        room = self.entries.shape[1]
        if count > room:
            self.entries = with_room(self.entries, max(count, FIRST_ROOM, int(room * GROWTH)))
