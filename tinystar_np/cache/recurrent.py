"""The state of a recurrence: arrays of fixed size that stand for everything read so far.

A key-value cache grows with the text; this does not. In exchange nothing can be taken back: a token that has
been mixed into the state cannot be removed from it.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import LayerState, check_fit
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.fast.deferred_state import DeferredState


class RecurrentState(LayerState):
    """Named arrays of one layer, each replaced as a whole by every call.

    New arrays wait until ``commit``, so that a call that breaks off in a later layer leaves the state as it
    was. In the place of an array may stand what a scan of ``fast`` returned: it is copied by rows, joined and
    turned into an array as arrays are.

    arrays  the state before the first token, by name, each (B, ...)
    """

    rewindable: ClassVar[bool] = False

    def __init__(self, **arrays: NDArray):
        self._arrays: dict[str, NDArray | DeferredState] = dict(arrays)
        self._waiting: dict[str, NDArray | DeferredState] = {}

    @property
    def nbytes(self) -> int:
        """Bytes allocated; they do not grow with what was read."""
        held = [*self._arrays.values(), *self._waiting.values()]
        return sum(array.nbytes for array in {id(array): array for array in held}.values())

    def __getitem__(self, name: str) -> Any:
        """Return what the last finished call left, an array or what stands for one; not to be written to."""
        return self._arrays[name]

    def replace(self, **arrays: NDArray | DeferredState) -> None:
        """Hand in the arrays after the new tokens, current from ``commit`` on.

        Arrays that wait from a call that broke off are dropped.
        """
        self._waiting = arrays

    def commit(self) -> None:
        """Make the arrays that wait the current ones."""
        if self._waiting:
            self._arrays, self._waiting = self._waiting, {}

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        return self._like({name: array[rows] for name, array in self._arrays.items()})

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        first, *_ = states
        return first._like({name: np.concatenate([s[name] for s in states]) for name in first._arrays})

    def _like(self, arrays: dict[str, NDArray | DeferredState]) -> Self:
        """Return a state of this kind with other arrays."""
        other = copy(self)
        other._arrays, other._waiting = arrays, {}
        return other

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return the arrays, which are the same size for any number of tokens."""
        # This state goes on with the very arrays that are saved: both then continue to the same bits.
        whole = {name: np.asarray(array) for name, array in self._arrays.items()}
        self._arrays = dict(whole)
        return whole

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Copy saved arrays; raises ValueError where they do not fit this layer."""
        check_fit(arrays, {name: (own.dtype, own.shape) for name, own in self.arrays(tokens).items()})
        self._arrays, self._waiting = {name: array.copy() for name, array in arrays.items()}, {}


class NoState(RecurrentState):
    """The state of a layer that treats each token by itself: nothing, so that any can be taken back."""

    rewindable: ClassVar[bool] = True


class HybridState(LayerState):
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
        """Copy what ``arrays(tokens)`` returned; raises ValueError where it does not fit this layer."""
        parts: dict[str, dict[str, NDArray]] = {str(i): {} for i in range(len(self.states))}
        for name, array in arrays.items():
            i, _, own = name.partition(".")
            if i not in parts:
                raise ValueError(f"an array {shown(name)}, but {len(parts)} mixers")
            parts[i][own] = array
        for state, part in zip(self.states, parts.values(), strict=True):
            state.restore(part, tokens)


def parts_of(state: LayerState) -> Iterator[LayerState]:
    """Take apart the state of a layer that has several."""
    if isinstance(state, HybridState):
        for part in state.states:
            yield from parts_of(part)
    else:
        yield state
