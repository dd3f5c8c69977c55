"""A cache: the states of all layers of a model for one batch of conversations.

``model.new_cache`` makes one, ``model(ids, cache=cache)`` extends it. Rows of the batch may hold different
numbers of tokens. Lengths move only after a call has gone through all layers: a call that is interrupted
leaves the cache as it was before.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError
from tinystar_np.state.key_values import KeyValueState
from tinystar_np.state.span import Span


class Cache:
    """One state per layer, and how many tokens each row of the batch holds.

    states   one per layer, in the model's order
    lengths  (B,) ints: tokens held by each row
    """

    def __init__(self, states: list[KeyValueState], lengths: NDArray[np.int64]):
        self.states = states
        self.lengths = lengths

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes that all states occupy, room for further tokens included."""
        return sum(state.nbytes for state in self.states)

    def span(self, new_tokens: int) -> Span:
        """Return the positions that the next ``new_tokens`` tokens of each row will take."""
        return Span(self.lengths, new_tokens)

    def advance(self, new_tokens: int) -> None:
        """Count ``new_tokens`` more tokens in every row; the layers have already stored them."""
        self.lengths = self.lengths + new_tokens

    def select(self, rows: Sequence[int]) -> "Cache":
        """Return a copy that holds these rows of the batch, in this order."""
        index = np.asarray(rows, dtype=np.int64)
        return Cache([state.select(index) for state in self.states], self.lengths[index])


def join_caches(caches: Sequence[Cache]) -> Cache:
    """Put the rows of several caches of one model into one batch; each row keeps its own length.

    Raises InputError where there are none, or of models with different numbers of layers.
    """
    if not caches or len({len(cache.states) for cache in caches}) != 1:
        raise InputError("join_caches needs one or more caches of one model.")
    states = [
        KeyValueState.join(list(layer)) for layer in zip(*(cache.states for cache in caches), strict=True)
    ]
    return Cache(states, np.concatenate([cache.lengths for cache in caches]))
