"""The engines of ranks.py: a model that ranks share, and what passes between them alone.

mpiexec starts engine_process.py on each rank. Rank 0 answers what ranks.py asks; the others follow, and end
with it.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from engines import TinyStar

from tinystar_np.following import follow
from tinystar_np.inspection.speed import Task
from tinystar_np.loading import load
from tinystar_np.ranks.mpi import MpiRanks
from tinystar_np.ranks.ranks import RanksEndedError

WARM_UP = 4  # tokens


class Alone(TinyStar):
    """The whole model in one process."""

    def load(self, dtype: str, parallel: str) -> None:
        self.model, _ = load(self.directory, dtype)

    def speeds(self, tasks: Sequence[Sequence[int]]) -> list[float]:
        """Do tasks, each given as (prompts at once, their tokens, new tokens): tokens/s of each."""
        found = []
        for task in (Task(*each) for each in tasks):
            draw = np.random.default_rng(0)
            ids = draw.integers(self.model.config.sizes["V"], size=(task.rows, task.tokens)).tolist()
            self.turn(ids, min(task.new, WARM_UP))
            found.append(task.speed(self.turn(ids, task.new)))
        return found

    def end(self) -> None:
        """Nobody else is to end."""


class Shared(Alone):
    """A part of the model in each rank."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.ranks = MpiRanks()
        if self.ranks.rank:
            follow(self.ranks)
            sys.exit()

    def load(self, dtype: str, parallel: str) -> None:
        self.model, _ = load(self.directory, dtype, ranks=self.ranks, parallel=parallel)

    def end(self) -> None:
        """Let the others end."""
        self.ranks.end()


class Wire:
    """Messages and sums without a model: float32 arrays of some sizes."""

    def __init__(self, directory: str) -> None:
        self.ranks = MpiRanks()
        self.ranks.share_cores("heads")
        if self.ranks.rank:
            with suppress(RanksEndedError):
                while True:
                    what, *how = self.ranks.receive(0)
                    getattr(self, what)(*how)
            sys.exit()

    def times(self, what: str, numbers: int, count: int) -> float:
        """Let all ranks do something so many times, after a tenth of that to warm up: seconds of one."""
        for some in (count // 10 + 1, count):
            for to in range(1, self.ranks.size):
                self.ranks.send((what, numbers, some), to)
            start = time.perf_counter()
            getattr(self, what)(numbers, some)
        return (time.perf_counter() - start) / count

    def rounds(self, numbers: int, count: int) -> None:
        """Send an array from each rank to the next, and from the last to rank 0."""
        rank, size = self.ranks.rank, self.ranks.size
        x = np.ones(numbers, np.float32)
        for _ in range(count):
            if rank:
                x = self.ranks.receive(rank - 1)
            self.ranks.send(x, (rank + 1) % size)
            if rank == 0:
                x = self.ranks.receive(size - 1)

    def sums(self, numbers: int, count: int) -> None:
        """Add up an array of each rank."""
        x = np.ones(numbers, np.float32)
        for _ in range(count):
            self.ranks.sum(x)

    def end(self) -> None:
        """Let the others end."""
        self.ranks.end()
