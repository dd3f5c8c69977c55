"""The keys and values of the chunk that a text stands in: what attention in chunks remembers.

Position p stands in place p mod C of arrays with C places, as in a window of C. But no token of the next
chunk sees any of this one. So what is in reach are the first places up to the newest, in order and without
copying: one behind a border, C before the next. Only a piece of a prompt that crosses a border must have old
and new keys in a row, and wait until ``commit`` before it overwrites.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.key_values import Seen
from tinystar_np.cache.sliding_key_values import SlidingKeyValueState
from tinystar_np.cache.span import Span


class ChunkedKeyValueState(SlidingKeyValueState):
    """Keys and values of each row's chunk. Arguments are those of ``SlidingKeyValueState``, W being C."""

    def append(self, k: NDArray, v: NDArray, span: Span) -> Seen:
        """Take in the new tokens' keys and values, (B, G, T, K) each.

        Returns what is in reach of any of them, each row's in the order of its positions. Beyond a row's own
        end, or before its chunk, may stand anything: positions say so, and a mask must hide it.
        """
        self._waiting = None
        held = span.start % self.most  # (B,): tokens that each row has of its chunk
        if (held + span.length > self.most).any():
            return self._joined(k, v, span, int(held.max()))
        self._write(k, v, span)  # behind what is there, or over a chunk that is done with
        places = int(held.max()) + span.length
        positions = (span.start - held)[:, None] + np.arange(places)
        return Seen(
            self.keys[:, :, :places], self.values[:, :, :places], positions[0] if span.uniform else positions
        )
