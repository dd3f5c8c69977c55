"""The followers, as the leader of a divided model sees them."""

import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import RanksError
from tinystar_np.ranks.ranks import Ranks


class Team:
    """The ranks that follow rank 0 in one model.

    ranks       all of them
    number      of the model, of which there may be several
    rewindable  whether tokens can be taken back from what the followers remember

    A message is (the model's number, what to do, arguments). What needs no answer waits for the next that
    does something (``later``), so that generating a token takes one message.
    """

    def __init__(self, ranks: Ranks, number: int = 0):
        self.ranks, self.number = ranks, number
        self.rewindable = True
        self._numbers = count()
        self._later: list[tuple[Any, ...]] = []

    def tell(self, *message: Any) -> None:
        """Let each follower do something; raises RanksError where they can no longer work together."""
        if self.ranks.fault:
            raise RanksError(self.ranks.fault)
        waiting, self._later = self._later, []
        for to in range(1, self.ranks.size):
            self.ranks.send((self.number, waiting, message), to)

    def later(self, *message: Any) -> None:
        """Let each follower do something before what it is told next."""
        self._later.append(message)

    def ask(self, *message: Any) -> list[Any]:
        """Let each follower do something that has a result; returns the results, in the ranks' order."""
        self.tell(*message)
        return [self.ranks.receive(source) for source in range(1, self.ranks.size)]

    def new_states(self, batch_size: int, capacity: int) -> int:
        """Make empty states on all followers; returns their number."""
        return self._made("new_states", batch_size, capacity)

    def select(self, number: int, rows: NDArray[np.integer]) -> int:
        """Make copies of rows of the followers' states; returns their number."""
        return self._made("select", number, rows)

    def join(self, numbers: Sequence[int]) -> int:
        """Put rows of several states into one batch; returns its number."""
        return self._made("join", list(numbers))

    def _made(self, what: str, *how: Any) -> int:
        number = next(self._numbers)
        self.later(what, number, *how)
        return number

    def forget_with(self, owner: object, number: int) -> None:
        """Let the followers drop states once the leader has dropped what stands for them."""
        weakref.finalize(owner, _drop, weakref.ref(self), number).atexit = False


def _drop(team: "Callable[[], Team | None]", number: int) -> None:
    found = team()
    if found is not None:
        found.later("drop", number)
