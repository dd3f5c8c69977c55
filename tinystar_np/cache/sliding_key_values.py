"""The last keys and values of an attention layer that sees only a window: memory that stops growing.

Position p stands in place p mod W of arrays with W places. A token at p sees W positions up to its own, and
takes the place of the one at p − W, which no later token sees. Softmax does not ask in which order the keys
come, so one new token needs no sorting. A piece of a prompt does, since its tokens see different windows: the
W − 1 earlier keys and the new ones are put in a row, and what remains of them is written back when the call
has gone through all layers; until then an interrupted call has lost nothing.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.key_values import KeyValueState, Seen
from tinystar_np.cache.span import Span


class SlidingKeyValueState(KeyValueState):
    """Keys and values of the last W positions of each row.

    window  W
    """

    rewindable: ClassVar[bool] = False  # what fell out of the window is gone

    def __init__(
        self,
        batch_size: int,
        heads: int,
        head_dim: int,
        window: int,
        capacity: int = 0,
        value_dim: int | None = None,
    ):
        super().__init__(batch_size, heads, head_dim, min(capacity, window), value_dim)
        self.most = window
        self._waiting: tuple[NDArray, NDArray, Span] | None = None

    def append(self, k: NDArray, v: NDArray, span: Span) -> Seen:
        """Take in the new tokens' keys and values, (B, G, T, K) each.

        Returns what is in reach of any of them. For one token that is the window, in the order of the places;
        for more, the W − 1 positions before the first and then the new ones, with places that stand for
        nothing in rows that do not have so many.
        """
        self._waiting = None
        if span.length == 1:
            self._write(k, v, span)
            places = min(span.end, self.most)
            return Seen(self.keys[:, :, :places], self.values[:, :, :places], self._positions(span, places))
        return self._joined(k, v, span, before=min(int(span.start.max()), self.most - 1))

    def _joined(self, k: NDArray, v: NDArray, span: Span, before: int) -> Seen:
        """Put so many earlier keys and values of each row and the new ones in a row; the new ones wait."""
        earlier = span.start[:, None] + np.arange(-before, 0)  # (B, before)
        self._waiting = k, v, span
        keys, values = (
            np.concatenate([self._take(held, earlier, span), new], axis=2)
            for held, new in ((self.keys, k), (self.values, v))
        )
        positions = np.concatenate([earlier, span.positions], axis=1)
        return Seen(keys, values, positions[0] if span.uniform else positions)

    def commit(self) -> None:
        """Write what a piece of a prompt leaves in the window."""
        if self._waiting is not None:
            k, v, span = self._waiting
            left = min(span.length, self.most)
            self._write(k[:, :, -left:], v[:, :, -left:], Span(span.start + span.length - left, left))
            self._waiting = None

    def _write(self, k: NDArray, v: NDArray, span: Span) -> None:
        """Put at most W neighbouring tokens into their places."""
        self._make_room(min(span.end, self.most))
        if span.uniform:
            places = span.positions[0] % self.most
            self.keys[:, :, places], self.values[:, :, places] = k, v
        else:
            for b, places in enumerate(span.positions % self.most):
                self.keys[b, :, places], self.values[b, :, places] = k[b].swapaxes(0, 1), v[b].swapaxes(0, 1)

    def _take(self, held: NDArray, positions: NDArray[np.int64], span: Span) -> NDArray:
        """Take the given positions (B, n) out of their places: (B, G, n, K)."""
        places = np.maximum(positions, 0) % self.most
        if span.uniform:
            return held[:, :, places[0]]
        return np.stack([rows[:, index] for rows, index in zip(held, places, strict=True)])

    def _positions(self, span: Span, places: int) -> NDArray[np.int64]:
        """Say which position stands in each place, now that the newest is in: (S,) or (B, S)."""
        newest = span.positions  # (B, 1)
        positions = newest - (newest - np.arange(places)) % self.most
        return positions[0] if span.uniform else positions
