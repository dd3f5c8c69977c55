"""The keys and values of one attention layer: what earlier tokens offer to later ones.

A token's key and value never change once computed, because no token sees its future. Keeping them makes the
next token cost one row of work instead of the whole text again.

    KeyValueState          those of the whole text
    SlidingKeyValueState   those of the last W positions, for layers that see a window: memory stops growing
    ChunkedKeyValueState   those of the chunk that the text stands in, for attention in chunks

With a window, position p stands in place p mod W of arrays with W places: it takes the place of p − W, which no
later token sees. Softmax does not ask in which order the keys come, so one new token needs no sorting. A piece of a
prompt does, since its tokens see different windows: the W − 1 earlier keys and the new ones are put in a row, and
what remains of them is written back when the call has gone through all layers; until then an interrupted call has
lost nothing.
"""

import sys
from collections.abc import Mapping
from copy import copy
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import check_fit
from tinystar_np.cache.step import Limits, Positions, Step

FIRST_CAPACITY = 64
GROWTH = 1.5
InReach = tuple[NDArray, NDArray, Positions]
"""Keys (B, G, S, K), values (B, G, S, K_v), and their positions: (S,), or (B, S) where they differ from row to row;
negative ones stand for nothing."""


class KeyValueState:
    """Keys and values of one layer, in arrays that have room for more tokens than they hold.

    When the room is used up, arrays half as large again take over. However long the text grows, a token is
    moved twice on average, and nothing is copied at the ordinary step.

    value_dim  K_v, the width of a value; None for that of a key, 0 where keys are all that is kept (latents)

    keys, values  (B, G, room, K), (B, G, room, K_v)
    """

    most: int = sys.maxsize
    """How many tokens there will ever be room for."""
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
        joined.keys = np.concatenate([_with_room(state.keys, room) for state in states])
        joined.values = np.concatenate([_with_room(state.values, room) for state in states])
        return joined

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return keys and values without the room after ``tokens``: each (B, G, tokens, K), views."""
        return {"keys": self.keys[:, :, :tokens], "values": self.values[:, :, :tokens]}

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Take over saved keys and values of ``tokens`` tokens; raises ValueError where they do not fit."""
        own, places = {"keys": self.keys, "values": self.values}, min(tokens, self.most)
        check_fit(arrays, {n: (a.dtype, (*a.shape[:2], places, a.shape[3])) for n, a in own.items()})
        self.keys, self.values = arrays["keys"], arrays["values"]

    def _make_room(self, tokens: int) -> None:
        """Have room for so many tokens in each row."""
        if tokens > self.capacity:
            capacity = max(tokens, min(self.most, max(FIRST_CAPACITY, int(self.capacity * GROWTH))))
            self.keys, self.values = _with_room(self.keys, capacity), _with_room(self.values, capacity)


class SlidingKeyValueState(KeyValueState):
    """Keys and values of the last W positions of each row.

    window  W
    """

    rewindable: ClassVar[bool] = False  # what fell out of the window is gone

    def __init__(
        self,
        batch_size: int,
        kv_heads: int,
        head_dim: int,
        window: int,
        capacity: int = 0,
        value_dim: int | None = None,
    ):
        super().__init__(batch_size, kv_heads, head_dim, min(capacity, window), value_dim)
        self.most = window
        self._waiting: tuple[NDArray, NDArray, Step] | None = None

    def append(self, k: NDArray, v: NDArray, step: Step) -> InReach:
        """Take in the new tokens' keys and values, (B, G, T, K) each.

        Returns what is in reach of any of them. For one token that is the window, in the order of the places;
        for more, the W − 1 positions before the first and then the new ones, with places that stand for
        nothing in rows that do not have so many.
        """
        self._waiting = None
        if step.length > 1:
            return self._in_a_row(k, v, step, before=min(int(step.start.max()), self.most - 1))
        self._write(k, v, step)
        places = min(step.end, self.most)
        newest = step.positions  # (B, 1)
        positions = newest - (newest - np.arange(places)) % self.most
        return (
            self.keys[:, :, :places],
            self.values[:, :, :places],
            positions[0] if step.uniform else positions,
        )

    def _in_a_row(self, k: NDArray, v: NDArray, step: Step, before: int) -> InReach:
        """Put so many earlier keys and values of each row and the new ones in a row; the new ones wait."""
        earlier = step.start[:, None] + np.arange(-before, 0)  # (B, before)
        self._waiting = k, v, step
        keys = np.concatenate([self._take(self.keys, earlier, step), k], axis=2)
        values = np.concatenate([self._take(self.values, earlier, step), v], axis=2)
        positions = np.concatenate([earlier, step.positions], axis=1)
        return keys, values, positions[0] if step.uniform else positions

    def commit(self) -> None:
        """Write what a piece of a prompt leaves in the window."""
        if self._waiting is not None:
            k, v, step = self._waiting
            left = min(step.length, self.most)
            self._write(k[:, :, -left:], v[:, :, -left:], Step(step.start + step.length - left, left))
            self._waiting = None

    def _write(self, k: NDArray, v: NDArray, step: Step) -> None:
        """Put at most W neighbouring tokens into their places."""
        self._make_room(min(step.end, self.most))
        if step.uniform:
            places = step.positions[0] % self.most
            self.keys[:, :, places], self.values[:, :, places] = k, v
        else:
            for b, places in enumerate(step.positions % self.most):
                self.keys[b, :, places], self.values[b, :, places] = k[b].swapaxes(0, 1), v[b].swapaxes(0, 1)

    def _take(self, held: NDArray, positions: Positions, step: Step) -> NDArray:
        """Take the given positions (B, n) out of their places: (B, G, n, K)."""
        places = np.maximum(positions, 0) % self.most
        if step.uniform:
            return held[:, :, places[0]]
        return np.stack([rows[:, index] for rows, index in zip(held, places, strict=True)])


class ChunkedKeyValueState(SlidingKeyValueState):
    """Keys and values of each row's chunk. Arguments are those of ``SlidingKeyValueState``, W being C.

    Places are as with a window of C, but no token of the next chunk sees any of this one. So what is in reach are
    the first places up to the newest, in order and without copying: one at a chunk's beginning, C at its end. Only
    a piece of a prompt that crosses the border between two chunks is put in a row.
    """

    def append(self, k: NDArray, v: NDArray, step: Step) -> InReach:
        """Take in the new tokens' keys and values, (B, G, T, K) each.

        Returns what is in reach of any of them, each row's in the order of its positions. Beyond a row's own
        end, or before its chunk, may stand anything: positions say so, and a mask must hide it.
        """
        self._waiting = None
        held = step.start % self.most  # (B,): tokens that each row has of its chunk
        if (held + step.length > self.most).any():
            return self._in_a_row(k, v, step, int(held.max()))
        self._write(k, v, step)  # after what is there, or over a chunk that is done with
        places = int(held.max()) + step.length
        positions = (step.start - held)[:, None] + np.arange(places)
        return (
            self.keys[:, :, :places],
            self.values[:, :, :places],
            positions[0] if step.uniform else positions,
        )


def _with_room(array: NDArray, capacity: int) -> NDArray:
    """Copy keys or values to where more tokens have room."""
    roomy = np.zeros((*array.shape[:2], capacity, array.shape[3]), dtype=array.dtype)
    roomy[:, :, : array.shape[2]] = array
    return roomy


def new_key_value_state(
    batch_size: int,
    kv_heads: int,
    head_dim: int,
    capacity: int,
    limits: Limits,
    value_dim: int | None = None,
) -> KeyValueState:
    """Make room for the keys and values of B rows, as far back as a token sees; arguments as of the classes."""
    shape = batch_size, kv_heads, head_dim
    if limits.chunk is not None:
        return ChunkedKeyValueState(*shape, limits.chunk, capacity, value_dim)
    if limits.window is not None:
        return SlidingKeyValueState(*shape, limits.window, capacity, value_dim)
    return KeyValueState(*shape, capacity, value_dim)
