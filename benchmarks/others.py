"""What other processes took of the processor while something was measured. On Linux; elsewhere nobody knows.

A server whose threads wait for each other loses far more beside a busy neighbour than the neighbour takes
(``busy.py``), so that a figure says something only together with this share.
"""

import os
import time
from pathlib import Path

from tinystar_np.fast.machine import usable_cores

TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PROC = Path("/proc")
BUSY = (0, 1, 2, 5, 6, 7)  # of a line "cpu": user, nice, system, interrupts twice, and what the host took


def all_seconds() -> float:
    """Return the processor time that everything on this machine has taken."""
    times = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(times[i]) for i in BUSY) / TICK


def own_seconds() -> float:
    """Return the processor time of this process, its children and theirs, also of those that have ended."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for path in PROC.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # a name may hold spaces
        except OSError:
            continue  # it has ended meanwhile
        process = int(path.parent.name)
        parents[process] = int(fields[1])
        seconds[process] = sum(map(int, fields[11:15])) / TICK

    def is_ours(process: int) -> bool:
        while process not in (0, os.getpid()):
            process = parents.get(process, 0)
        return process != 0

    return sum(taken for process, taken in seconds.items() if is_ours(process))


class Watch:
    """A stopwatch of what others take: made when something begins, read when it has ended."""

    def __init__(self) -> None:
        self.is_known = (PROC / "stat").exists()
        self.begun = self.now()

    def now(self) -> tuple[float, float]:
        if not self.is_known:
            return 0.0, 0.0
        return time.perf_counter(), all_seconds() - own_seconds()

    def share(self) -> float | None:
        """Return what others took, of all cores' time; None where that is not known."""
        if not self.is_known:
            return None
        (start, before), (end, after) = self.begun, self.now()
        return max(after - before, 0.0) / ((end - start) * usable_cores())
