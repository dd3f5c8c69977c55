"""The cores of a machine, among the ranks that run on it.

mpiexec may bind each process to a core of its own, as Open MPI's does with two processes. Where ranks divide
layers they take turns, and each may use all cores of the machine meanwhile. Where they divide each layer,
or the texts, they work at the same time, and each has its share of them.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from tinystar_np.fast.machine import cores_of_time
from tinystar_np.fast.threads import are_named, chosen_threads, use_threads
from tinystar_np.processes import OPEN_MPI
from tinystar_np.ranks.division import shares

TASKS = "/proc/self/task"
"""A folder for each thread of this process."""


def cores_before_binding() -> frozenset[int]:
    """Return the cores on which this process might run if nobody had bound it to one of them.

    What Open MPI starts it also binds; what it was itself given, its process still has.
    """
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(range(os.cpu_count() or 1))
    cores = os.sched_getaffinity(0)
    if OPEN_MPI in os.environ:
        with suppress(OSError):
            cores |= os.sched_getaffinity(os.getppid())
    return frozenset(cores)


def share_cores(here: Sequence[int], rank: int, cores: Iterable[int], together: bool) -> None:
    """Take this rank's cores of its machine, and as many threads.

    here      the ranks on this machine
    rank      this one
    cores     of the machine, for all of them
    together  whether they compute at the same time
    """
    global _taken
    own = sorted(cores)
    if together:
        run = shares(len(own), len(here))[here.index(rank)]
        own = [own[i] for i in run] or [own[rank % len(own)]]
    _bind(own)
    if are_named() or threads_asked_for() is not None:
        return
    limit = cores_of_time() / (len(here) if together else 1)
    _taken = max(1, int(min(len(own), limit)))
    use_threads(_taken)


_taken: int | None = None  # how many threads this module has chosen


def threads_asked_for() -> int | None:
    """Return the number of threads that the program has asked for; None where it has not."""
    chosen = chosen_threads()
    return None if chosen == _taken else chosen


def take_threads(count: int) -> None:
    """Take as many threads as rank 0 was asked to take: so many in each process."""
    global _taken
    _taken = None
    use_threads(count)


def _bind(cores: Iterable[int]) -> None:
    """Let all threads of this process run on these cores."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            for thread in os.listdir(TASKS):
                with suppress(OSError):  # it has ended
                    os.sched_setaffinity(int(thread), cores)
