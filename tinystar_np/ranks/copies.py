"""Texts divided among ranks of which each has the whole model.

Rank 0 tells the others at once which texts each is to read, and reads its own share of them. What the others
find they send in pieces, in the order in which they find it, and after the last a ``None``.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tinystar_np.errors import RanksError
from tinystar_np.ranks.team import Team

STOP = "stop"
"""What rank 0 tells the others where it wants no more of what they find."""


def dealt(costs: Sequence[int], size: int) -> list[list[int]]:
    """Deal things out to ranks: the costliest first, each to the rank that has the least so far.

    costs  of each thing
    size   ranks

    Returns the indices of each rank's things, in their order.

    >>> dealt([5, 5, 5, 5, 2], 2), dealt([1, 9, 3, 4], 2)
    ([[0, 2, 4], [1, 3]], [[1], [0, 2, 3]])
    """
    found: list[list[int]] = [[] for _ in range(size)]
    sums = [0] * size
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        rank = sums.index(min(sums))
        found[rank].append(index)
        sums[rank] += costs[index]
    return [sorted(each) for each in found]


class Results:
    """What the other ranks find of what rank 0 has told them, as it comes.

    team     the other ranks
    message  what they are told

    Used as ``with Results(team, …) as results:``, in which rank 0 does its own share. Meanwhile the ranks do
    nothing else; where the block ends early, they stop.
    """

    def __init__(self, team: Team, *message: Any):
        self._team, self._ranks, self._message = team, team.ranks, message
        self._come: deque[Any] = deque()
        self._busy = set(range(1, team.ranks.size))

    def __enter__(self) -> Self:
        """Tell the others."""
        self._ranks.turn.__enter__()
        try:
            self._team.tell(*self._message)
        except BaseException:
            self._ranks.turn.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop those that are not done, and wait until they have stopped: nothing of theirs comes later."""
        try:
            if self._busy and not self._ranks.fault:
                with suppress(RanksError):
                    self._team.tell(STOP)
                    while self._busy:
                        self._take(min(self._busy))
        finally:
            self._ranks.turn.__exit__(None, None, None)

    def come(self) -> Iterator[Any]:
        """Yield what has come until now; raises RanksError where a rank has failed."""
        for rank in sorted(self._busy):
            while rank in self._busy and self._ranks.ready(rank):
                self._take(rank)
        while self._come:
            yield self._come.popleft()

    def awaited(self, rank: int) -> Iterator[Any]:
        """Yield what has come until now, at least the next thing of one rank, if it is not done."""
        if rank in self._busy:
            self._take(rank)
        yield from self.come()

    def rest(self) -> Iterator[Any]:
        """Yield all that is still to come."""
        while self._busy:
            yield from self.awaited(min(self._busy))
        yield from self.come()

    def _take(self, rank: int) -> None:
        found = self._ranks.receive(rank)
        if found is None:
            self._busy.discard(rank)
        else:
            self._come.append(found)
