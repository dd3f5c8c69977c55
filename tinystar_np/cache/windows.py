"""Keys and values of layers that see a window, or a chunk: memory stops growing.

    SlidingKeyValueState   those of the last W positions, for layers that see a window
    ChunkedKeyValueState   those of the chunk that the text stands in, for attention in chunks

With a window, position p stands in place p mod W of arrays with W places: it takes the place of p − W, which
no later token sees. Softmax does not depend on the order of the keys, so one new token needs no sorting. A
piece of a prompt does, since its tokens see different windows: the W − 1 earlier keys and the new ones are
put in a row, and what remains of them is written back when the call has gone through all layers; until then
an interrupted call has lost nothing.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.keys_and_values import InReach, KeyValueState
from tinystar_np.cache.step import Limits, Positions, Step


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

    Places are as with a window of C, but no token of the next chunk sees any of this one. So what is in reach
    are the first places up to the newest, in order and without copying: one at a chunk's beginning, C at its
    end. Only a piece of a prompt that crosses the border between two chunks is put in a row.
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


def new_key_value_state(
    batch_size: int,
    kv_heads: int,
    head_dim: int,
    capacity: int,
    limits: Limits,
    value_dim: int | None = None,
) -> KeyValueState:
    """Make the state that keeps as much of B rows as a token sees; the arguments are those of the classes."""
    shape = batch_size, kv_heads, head_dim
    if limits.chunk is not None:
        return ChunkedKeyValueState(*shape, limits.chunk, capacity, value_dim)
    if limits.window is not None:
        return SlidingKeyValueState(*shape, limits.window, capacity, value_dim)
    return KeyValueState(*shape, capacity, value_dim)
