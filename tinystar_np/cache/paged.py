"""Keys and values of many texts in one pool: the state of an attention layer whose rows come and go.

``KeyValueState`` holds the rows of one batch in arrays of their own, and copies them when a row joins or
leaves. Here a row is a table of blocks (cache/blocks.py), the same for every layer, and joining copies
nothing. Windows and chunks keep all their tokens here: another text may share them up to any block, and then
needs the W tokens before it. Only those that are within reach are read.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.keys_and_values import KeyValueState
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.step import Positions, Step
from tinystar_np.cache.windows import ChunkedKeyValueState, SlidingKeyValueState
from tinystar_np.fast import gathered
from tinystar_np.kernels.paged_attention import Paged

Table = Sequence[int] | NDArray[np.integer]
"""The numbers of a text's blocks, in the order of the text; more of them count for nothing."""


class _Places(NamedTuple):
    """Where the rows of a call stand in the pool.

    tables   (B, n), filled up with zeros
    lengths  (B,) tokens of each row, the new ones included
    new      (B · T,) the places of the new tokens
    """

    tables: NDArray[np.int64]
    lengths: NDArray[np.int64]
    new: NDArray[np.int64]


def as_array(tables: Sequence[Table]) -> NDArray[np.int32]:
    """Put block tables into one array (B, n), filled up with zeros."""
    array = np.zeros((len(tables), max(map(len, tables), default=0)), dtype=np.int32)
    for row, table in zip(array, tables, strict=True):
        row[: len(table)] = table
    return array


class PagedState(LayerState):
    """Keys and values of one layer of some texts of a pool.

    like    the state that the layer makes itself, of one row: its shapes, and how far back a token attends
    places  P, how many tokens the pool can hold
    size    places of a block

    tables  the block table of each row
    """

    rewindable: ClassVar[bool] = True

    def __init__(self, like: KeyValueState, places: int, size: int) -> None:
        G, K, K_v = like.keys.shape[1], like.keys.shape[3], like.values.shape[3]
        # Zeros: the system hands out zeroed pages when they are touched, so that unused blocks cost nothing.
        self.keys: NDArray = np.zeros((G, places, K), dtype=like.keys.dtype)
        self.values: NDArray = np.zeros((G, places, K_v), dtype=like.values.dtype)
        self.size = size
        chunked = isinstance(like, ChunkedKeyValueState)
        self.chunk: int | None = like.most if chunked else None
        windowed = isinstance(like, SlidingKeyValueState) and not chunked
        self.window: int | None = like.most if windowed else None
        self.tables: Sequence[Table] = ()

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block."""
        return (self.keys.nbytes + self.values.nbytes) // (self.keys.shape[1] // self.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that the rows hold; those that several hold count once."""
        return len({int(block) for table in self.tables for block in table}) * self.bytes_per_block

    def of(self, tables: Sequence[Table]) -> Self:
        """Return the state of texts with these tables, which may grow."""
        state = copy(self)
        state.tables = tables
        return state

    def append(
        self, k: NDArray, v: NDArray, step: Step
    ) -> tuple[NDArray | Paged, NDArray | Paged, Positions]:
        """Write the new tokens' keys and values, (B, G, T, K) each, into the blocks that the tables name.

        Returns keys, values, and the positions of the keys: for one new token of each row as they stand in
        the pool, for more of them collected, from the first that is within reach.
        """
        places = step.once("places in the pool", lambda: self._places(step))
        G, K = k.shape[1], k.shape[3]
        self.keys[:, places.new] = k.swapaxes(0, 1).reshape(G, -1, K)
        if v.shape[3]:
            self.values[:, places.new] = v.swapaxes(0, 1).reshape(G, -1, v.shape[3])
        keys = Paged(self.keys, places.tables, places.lengths, self.size)
        values = Paged(self.values, places.tables, places.lengths, self.size)
        if step.length == 1:
            return keys, values, np.arange(step.end)
        first = self._first_in_reach(step)
        return gathered(keys, first), gathered(values, first), np.arange(first, step.end)

    def _places(self, step: Step) -> _Places:
        tables = as_array(self.tables).astype(np.int64)
        at = step.positions  # (B, T)
        new = np.take_along_axis(tables, at // self.size, axis=1) * self.size + at % self.size
        return _Places(tables, step.start + step.length, new.ravel())

    def _first_in_reach(self, step: Step) -> int:
        """Return the first position that a new token of any row attends to."""
        earliest = int(step.start.min())
        if self.window is not None:
            return max(0, earliest - self.window + 1)
        return 0 if self.chunk is None else earliest // self.chunk * self.chunk

    def copy_block(self, block: int, to: int) -> None:
        """Copy the keys and values of a block into another."""
        source, target = (slice(b * self.size, (b + 1) * self.size) for b in (block, to))
        self.keys[:, target], self.values[:, target] = self.keys[:, source], self.values[:, source]

    def commit(self) -> None:
        """Nothing waits: new tokens stand after the old ones, and only their count makes them part of it."""

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return the state of these rows, in this order. It holds the same blocks; nothing is copied."""
        return self.of([self.tables[row] for row in rows.tolist()])

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states of a pool into one batch; nothing is copied."""
        return states[0].of([table for state in states for table in state.tables])

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return copies of the keys and values of the first ``tokens``: each (B, G, tokens, K)."""
        step = Step(np.full(len(self.tables), tokens - 1), 1)
        places = self._places(step)
        paged = (Paged(pool, *places[:2], self.size) for pool in (self.keys, self.values))
        return dict(zip(("keys", "values"), map(gathered, paged), strict=True))

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Raise ValueError: texts of a pool are read, and not loaded."""
        raise ValueError("a text of a pool cannot be loaded")
