"""The states of mixers that run side by side in one block: each keeps its own, together they are one."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import LayerState


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
