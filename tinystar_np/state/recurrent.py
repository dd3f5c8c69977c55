"""The state of a recurrence: arrays of fixed size that stand for everything read so far.

A key-value cache grows with the text; this does not. In exchange nothing can be taken back: a token that has
been mixed into the state cannot be removed from it.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.scans import State
from tinystar_np.state.layer_state import check_fit


class RecurrentState:
    """Named arrays of one layer, each replaced as a whole by every call.

    New ones wait until ``commit``, so that a call that breaks off in a later layer leaves the state as it
    was. What a scan returned is kept as it is (fast/deferred_state.py).

    arrays  the state before the first token, by name, each (B, ...)
    """

    rewindable: ClassVar[bool] = False

    def __init__(self, **arrays: State):
        self._arrays = dict(arrays)
        self._pending: dict[str, State] = {}

    @property
    def nbytes(self) -> int:
        """Bytes allocated; they do not grow with what was read."""
        return sum(array.nbytes for array in self._arrays.values())

    def __getitem__(self, name: str) -> Any:
        """Return what the last finished call left; not to be written to."""
        return self._arrays[name]

    def replace(self, **arrays: State) -> None:
        """Hand in the arrays after the new tokens, current from ``commit`` on.

        Arrays that wait from a call that broke off are dropped.
        """
        self._pending = arrays

    def commit(self) -> None:
        """Make the arrays that wait the current ones."""
        if self._pending:
            self._arrays = self._pending
            self._pending = {}

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        return self._like({name: array[rows] for name, array in self._arrays.items()})

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        first, *_ = states
        return first._like({name: np.concatenate([s[name] for s in states]) for name in first._arrays})

    def _like(self, arrays: dict[str, State]) -> Self:
        """Return a state of this kind with other arrays."""
        other = copy(self)
        other._arrays, other._pending = arrays, {}
        return other

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return the arrays, which are the same size for any number of tokens."""
        whole = {name: np.asarray(array) for name, array in self._arrays.items()}
        self._arrays = dict(whole)  # here too: both go on to the same bits
        return whole

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Take over saved arrays; raises ValueError where they do not fit this layer."""
        check_fit(arrays, {name: (own.dtype, own.shape) for name, own in self.arrays(tokens).items()})
        self._arrays = dict(arrays)
        self._pending = {}
