"""The followers, as the leader of a divided model sees them."""

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import RanksError
from tinystar_np.ranks.ranks import Ranks

OUT_OF_STEP = (
    "A call of the model ended with {error} on rank 0 in the middle of what the ranks do together. They are "
    "out of step: start them again."
)


@contextmanager
def to_its_end(ranks: Ranks) -> Iterator[None]:
    """Say that the ranks can do nothing together any more where the ``with`` block ends too early."""
    try:
        yield
    except BaseException as error:
        ranks.fault = ranks.fault or OUT_OF_STEP.format(error=type(error).__name__)
        raise


class Result(NamedTuple):
    """What the last rank sends to rank 0 where layers are divided.

    call  the number of the model, and of its call
    x     the residual stream (B, T, D), or (B, 1, D)
    """

    call: tuple[int, int]
    x: NDArray


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
        # A deque, and no lock: states end in any thread, also where Python collects garbage in the middle of
        # a line of this class, which would wait for itself.
        self._later: deque[tuple[Any, ...]] = deque()

    def tell(self, *message: Any) -> None:
        """Let each follower do something; only in the thread whose turn it is (``Ranks.turn``).

        Raises RanksError where they can no longer work together.
        """
        if self.ranks.fault:
            raise RanksError(self.ranks.fault)
        with to_its_end(self.ranks):
            waiting = []
            while self._later:
                waiting.append(self._later.popleft())
            for to in range(1, self.ranks.size):
                self.ranks.send((self.number, waiting, message), to)

    def later(self, *message: Any) -> None:
        """Let each follower do something before what it is told next; in any thread."""
        self._later.append(message)

    def ask(self, *message: Any) -> list[Any]:
        """Let each follower do something that has a result; returns the results, in the ranks' order."""
        with self.ranks.turn:
            self.tell(*message)
            return self.answers()

    def answers(self) -> list[Any]:
        """Receive what each follower answers to what all were told, in the ranks' order."""
        with to_its_end(self.ranks):
            return [self._answer(source) for source in range(1, self.ranks.size)]

    def _answer(self, source: int) -> Any:
        while isinstance(found := self.ranks.receive(source), Result):
            pass  # of a call that Ctrl-C ended
        return found

    def new_states(self, batch_size: int, capacity: int) -> int:
        """Make empty states on all followers; returns their number."""
        return self._made("new_states", batch_size, capacity)

    def select(self, number: int, rows: NDArray[np.integer]) -> int:
        """Make copies of rows of the followers' states; returns their number."""
        return self._made("select", number, rows)

    def join(self, numbers: Sequence[int]) -> int:
        """Put rows of several states into one batch; returns its number."""
        return self._made("join", list(numbers))

    def paged(self, number: int, blocks: int, size: int) -> int:
        """Put the followers' states of one row into a pool of so many blocks; returns the pool's number."""
        return self._made("paged", number, blocks, size)

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
