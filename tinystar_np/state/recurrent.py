"""The state of a recurrence: arrays of fixed size that stand for everything read so far.

A key-value cache grows with the text; this does not. In exchange nothing can be taken back: a token that has
been mixed into the state cannot be removed from it.
"""

from collections.abc import Mapping
from itertools import chain
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.state.layer_state import check_fit


class RecurrentState:
    """Named arrays of one layer, each replaced as a whole by every call.

    New arrays wait until ``commit``, so that a call that breaks off in a later layer leaves the state as it
    was. A large array need not be a new one at every token: two take turns (``spare``).

    arrays  the state before the first token, by name, each (B, ...)
    """

    rewindable: ClassVar[bool] = False

    def __init__(self, **arrays: NDArray):
        self._arrays = dict(arrays)
        self._pending: dict[str, NDArray] = {}
        self._turns: dict[str, list[NDArray]] = {}  # made here, two at the most of a name

    @property
    def nbytes(self) -> int:
        """Bytes allocated, the same however much was read: of what takes turns twice an array's."""
        held = [*self._arrays.values(), *self._pending.values(), *chain(*self._turns.values())]
        return sum(array.nbytes for array in {id(array): array for array in held}.values())

    def __getitem__(self, name: str) -> NDArray:
        """Return what the last finished call left; not to be written to, nor kept: see ``spare``."""
        return self._arrays[name]

    def spare(self, name: str) -> NDArray:
        """Return an array to write the next state into and hand to ``replace``.

        It is like the current one, which stays as it is until the call after the next ``commit``, and holds
        anything.
        """
        current, turns = self._arrays[name], self._turns.setdefault(name, [])
        for array in turns:
            if array is not current:
                return array
        turns.append(np.empty(current.shape, current.dtype))
        return turns[-1]

    def replace(self, **arrays: NDArray) -> None:
        """Hand in the arrays behind the new tokens, current from ``commit`` on.

        Arrays that wait from a call that broke off are dropped.
        """
        self._pending = arrays

    def commit(self) -> None:
        """Make the arrays that wait the current ones."""
        self._arrays |= self._pending
        self._pending = {}

    def select(self, rows: NDArray[np.integer]) -> "RecurrentState":
        """Return a copy that holds these rows of the batch, in this order."""
        return RecurrentState(**{name: array[rows] for name, array in self._arrays.items()})

    @classmethod
    def join(cls, states: list["RecurrentState"]) -> "RecurrentState":
        """Put the rows of several states into one batch (copied)."""
        return cls(**{name: np.concatenate([s[name] for s in states]) for name in states[0]._arrays})

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return the arrays, which are the same size for any number of tokens."""
        return dict(self._arrays)

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Take over saved arrays; raises ValueError where they do not fit this layer."""
        check_fit(arrays, {name: (array.dtype, array.shape) for name, array in self._arrays.items()})
        self._arrays, self._pending = dict(arrays), {}
