"""The state of a recurrence: arrays of fixed size that stand for everything read so far.

A key-value cache grows with the text; this does not. In exchange nothing can be taken back: a token that has
been mixed into the state cannot be removed from it.
"""

from collections.abc import Mapping
from copy import copy
from itertools import chain
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import LayerState, check_fit
from tinystar_np.kernels.recent_tokens import MOST, Recent, nothing_recent, sum_up, tokens_of


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
        """Bytes allocated, of what takes turns both arrays'; they do not grow with what was read."""
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

    def _like(self, arrays: dict[str, NDArray]) -> Self:
        """Return a state of this kind with other arrays."""
        other = copy(self)
        other._arrays, other._pending, other._turns = arrays, {}, {}
        return other

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return the arrays, which are the same size for any number of tokens."""
        return dict(self._arrays)

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Take over saved arrays; raises ValueError where they do not fit this layer."""
        check_fit(arrays, {name: (own.dtype, own.shape) for name, own in self.arrays(tokens).items()})
        self._arrays = {
            name: array.copy() for name, array in arrays.items()
        }  # another's may take turns there
        self._pending = {}


class MatrixState(RecurrentState):
    """The state of a recurrence that remembers a matrix for each head; its last few tokens stand beside it.

    See kernels/recent_tokens.py. They are handed in with the matrix, as ``factors``, ``keys`` and ``values``.
    Without these the matrix has taken in all tokens, as it has where it is saved.

    matrix        its name among the arrays, which is (B, H, K, V)
    groups        G, the heads of keys, which divides H
    values_first  whether the matrix is (B, H, V, K)
    """

    def __init__(self, matrix: str, groups: int, values_first: bool = False, **arrays: NDArray):
        super().__init__(**arrays)
        self._matrix, self._groups, self._values_first = matrix, groups, values_first

    @property
    def recent(self) -> Recent:
        """What the tokens have added that the matrix has not taken in."""
        if "factors" in self._arrays:
            return self["factors"], self["keys"], self["values"]
        return self._nothing()

    def _nothing(self) -> Recent:
        """Make what stands beside a matrix with all tokens in it."""
        batch, heads, *widths = self[self._matrix].shape
        key_dim, value_dim = reversed(widths) if self._values_first else widths
        return nothing_recent(batch, heads, self._groups, key_dim, value_dim)

    def with_room(self) -> tuple[NDArray, Recent]:
        """Return the matrix and the recent tokens, fewer than the most: there is room for one more."""
        recent = self.recent
        if tokens_of(recent) < MOST:
            return self[self._matrix], recent
        return self.whole(self.spare(self._matrix)), self._nothing()

    def whole(self, after: NDArray | None = None) -> NDArray:
        """Return the matrix with all tokens in it; not to be written to.

        after  like the matrix, to be written over; None for a new one, where it is needed
        """
        now, recent = self[self._matrix], self.recent
        if not tokens_of(recent):
            return now
        after = np.empty_like(now) if after is None else after
        sum_up(now, recent, after, self._values_first)
        return after

    def _in_one(self, after: NDArray | None = None) -> dict[str, NDArray]:
        """Return the arrays of the same state, the matrix with all tokens in it."""
        arrays = self._arrays | {self._matrix: self.whole(after)}
        return {name: array for name, array in arrays.items() if name not in ("factors", "keys", "values")}

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        if len({tokens_of(state.recent) for state in states}) > 1:
            states = [state._like(state._in_one()) for state in states]
        return super().join(states)

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return the arrays, which are the same size for any number of tokens."""
        if tokens_of(self.recent):
            self._arrays = self._in_one(self.spare(self._matrix))  # here too: both go on to the same bits
        return super().arrays(tokens)


class HybridState:
    """Several states that are written, chosen and saved together.

    states  one per mixer, in the block's order
    """

    rewindable: ClassVar[bool] = False  # one of them is a recurrence's: two of attention would be one layer

    def __init__(self, *states: LayerState):
        self.states = states

    @property
    def nbytes(self) -> int:
        """Bytes allocated by all."""
        return sum(state.nbytes for state in self.states)

    def commit(self) -> None:
        """Make what the call computed the state, in each."""
        for state in self.states:
            state.commit()

    def select(self, rows: NDArray[np.integer]) -> "HybridState":
        """Return a copy that holds these rows of the batch, in this order."""
        return HybridState(*(state.select(rows) for state in self.states))

    @classmethod
    def join(cls, states: list["HybridState"]) -> "HybridState":
        """Put the rows of several states into one batch (copied)."""
        alike = zip(*(state.states for state in states), strict=True)
        return cls(*(type(parts[0]).join(list(parts)) for parts in alike))

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return what must be saved of each, its number before its names: {"0.keys": …, "1.ssm": …}."""
        return {
            f"{i}.{name}": array
            for i, state in enumerate(self.states)
            for name, array in state.arrays(tokens).items()
        }

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Take over what ``arrays(tokens)`` returned; raises ValueError where it does not fit this layer."""
        parts: dict[str, dict[str, NDArray]] = {str(i): {} for i in range(len(self.states))}
        for name, array in arrays.items():
            i, _, own = name.partition(".")
            if i not in parts:
                raise ValueError(f"an array {name!r}, but {len(parts)} mixers")
            parts[i][own] = array
        for state, part in zip(self.states, parts.values(), strict=True):
            state.restore(part, tokens)
