"""What other ranks remember of a cache whose model is divided: the leader has a number that stands for it."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.ranks import Team


class StatesElsewhere:
    """The states of all followers, as one ``LayerState``.

    team    the followers
    number  of the states there
    """

    def __init__(self, team: Team, number: int):
        self.team, self.number = team, number
        self.rewindable = team.rewindable
        team.forget_with(self, number)

    @property
    def nbytes(self) -> int:
        """Bytes allocated on the followers."""
        return sum(self.team.ask("nbytes", self.number))

    def commit(self) -> None:
        """Make what the call computed the state."""
        self.team.later("commit", self.number)

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        return type(self)(self.team, self.team.select(self.number, rows))

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        team = states[0].team
        return cls(team, team.join([state.number for state in states]))

    def clear(self, lengths: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Empty the places of forgotten tokens, as ``clear`` in layer_state.py."""
        self.team.later("clear", self.number, lengths, before)

    def bytes_held(self, tokens: int) -> int:
        """Return the bytes of what the followers remember of rows with up to so many tokens."""
        return sum(self.team.ask("bytes_held", self.number, tokens))

    def arrays(self, tokens: int) -> Mapping[str, NDArray]:
        """Return what must be saved: each array's name after its rank and its layer there."""
        of_ranks = self.team.ask("arrays", self.number, tokens)
        return {
            f"{rank}.{layer}.{name}": array
            for rank, layers in enumerate(of_ranks, start=1)
            for layer, arrays in enumerate(layers)
            for name, array in arrays.items()
        }

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Send what ``arrays(tokens)`` returned back; raises ValueError where it does not fit a layer."""
        of_ranks: dict[int, dict[int, dict[str, NDArray]]] = {}
        for name, array in arrays.items():
            rank, layer, rest = name.split(".", 2)
            of_ranks.setdefault(int(rank), {}).setdefault(int(layer), {})[rest] = array
        faults = self.team.ask("restore", self.number, of_ranks, tokens)
        for fault in faults:
            if fault:
                raise ValueError(fault)
