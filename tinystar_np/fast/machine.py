"""The machine: how many cores and how much memory this process may use, and how many cores others keep busy.

Linux puts every process into nested control groups, and each may have a limit: a container may be given many
cores, but only so much time on them, and less memory than there is. Version 2 has one tree of groups, version
1 one for each kind of limit.
https://docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/memory.html
"""

import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")
CORE_TIMES = Path("/proc/stat")
LEAST_PERIOD = 0.2  # seconds; Linux counts the time of cores in hundredths
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def usable_cores() -> int:
    """Count the cores that this process may keep busy: those it may run on, or fewer by a limit of time."""
    return math.ceil(min(allowed_cores(), cores_of_time()))


def cores_of_time() -> float:
    """Return the limit of time that this process has together with others of its groups, in cores."""
    return min(map(_cores, _own_groups("cpu")), default=math.inf)


def allowed_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def second_level_cache() -> int:
    """Return the bytes of a core's second-level cache; 0 where the system does not say."""
    try:
        size = (CACHES / "index2" / "size").read_text()  # "2048K"
        return int(size.strip().removesuffix("K")) * 1024
    except (OSError, ValueError):  # other systems than Linux, and virtual machines that hide it
        return 0


def current_core() -> int | None:
    """Return the number of the core that the calling thread runs on; None where the system does not tell."""
    tell = _core_of_thread()
    return None if tell is None else tell()


@cache
def _core_of_thread() -> Callable[[], int] | None:
    # With PyDLL a call keeps Python's lock, which would cost more than the call.
    return getattr(ctypes.PyDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def leave_cores(taken: set[int | None]) -> None:
    """Move the calling thread to a core that is not taken, if there is one that it may run on."""
    with suppress(OSError):
        allowed = os.sched_getaffinity(0)
        if allowed - taken:
            os.sched_setaffinity(0, allowed - taken)  # which moves it at once
            os.sched_setaffinity(0, allowed)


class CoreTimes(NamedTuple):
    """How cores have been used until now.

    clock    seconds since some moment
    own      seconds in which this process computed, on all cores together
    idle     seconds in which the cores that it may run on had nothing to do, all together
    running  threads that want a core now, besides the calling one: others' and perhaps our own
    """

    clock: float
    own: float
    idle: float
    running: int


class CoresTaken:
    """How many of the cores that this process may run on others keep busy, averaged over the last moment.

    The time in which a core was neither idle nor busy with this process went to others. Only Linux tells how
    long each core was idle, in a file that proc(5) describes.
    """

    def __init__(self) -> None:
        self._last = _core_times()
        self._taken = 0.0

    def __call__(self) -> float:
        """Return the number, measured a few times a second; 0 before that, or if the system does not tell."""
        last = self._last
        if last is not None and time.monotonic() - last.clock >= LEAST_PERIOD:
            now = self._last = _core_times()
            self._taken = 0.0
            if now is not None:
                given = (now.own - last.own + now.idle - last.idle) / (now.clock - last.clock)
                # The average may reach far back, to processes that are no longer busy.
                self._taken = min(max(0.0, allowed_cores() - given), now.running)
        return self._taken


def _core_times() -> CoreTimes | None:
    """Read the times, or return None where the system does not tell."""
    try:
        lines = map(str.split, CORE_TIMES.read_text().splitlines())
        found = {name: list(map(int, numbers)) for name, *numbers in lines if name != "intr"}
        cores = [found[f"cpu{core}"] for core in os.sched_getaffinity(0)]
        if not all(map(any, cores)):
            return None  # a sandbox that shows the file without its numbers
        # Waiting for a disk counts as idle.
        idle = sum(core[3] + core[4] for core in cores) / os.sysconf("SC_CLK_TCK")
        running = found["procs_running"][0] - 1
    except (AttributeError, OSError, ValueError, LookupError):
        return None
    return CoreTimes(time.monotonic(), time.process_time(), idle, running)


def usable_memory() -> int | None:
    """Return how many bytes this process can have without others being moved to disk.

    The file cache counts as free: the system frees it on demand. Returns None where the system does not tell
    as Linux does.
    """
    try:
        lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return int(min([free, *map(_memory, _own_groups("memory"))]))


def _own_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that limit this process.

    controller  "cpu" or "memory", the name of version 1's tree
    """
    with suppress(OSError, ValueError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = CONTROL_GROUPS / controller if controllers else CONTROL_GROUPS
            group = root / name.lstrip("/")
            # Within a container the name may be the host's, of no folder here: the root is the group then.
            for folder in (group, *group.parents):
                yield folder
                if folder == root:
                    break


def _cores(group: Path) -> float:
    """Read one group's limit of time, in cores: computing time per period, both in microseconds."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (group / "cpu.max").exists():
            time, period = (group / "cpu.max").read_text().split()
        else:
            time, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if time != "max" and int(time) > 0:  # version 1 says -1 for no limit
            return int(time) / int(period)
    return math.inf


def _memory(group: Path) -> float:
    """Read how many bytes one group may still have."""
    with suppress(OSError, ValueError):
        names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file", "total_inactive_file"
        if (group / "memory.max").exists():
            names = "memory.max", "memory.current", "active_file", "inactive_file"
        limit, used, *files = names
        most = (group / limit).read_text().strip()
        if most != "max":
            held = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            own = int((group / used).read_text()) - sum(int(held.get(name, 0)) for name in files)
            return max(0, int(most) - own)
    return math.inf


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can (glibc keeps it otherwise).

    Reading a tokenizer of 50 000 tokens leaves 25 MB, 5 % of GPT-2's weights, which is not needed again,
    since weights are mapped. It takes 3 ms.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
