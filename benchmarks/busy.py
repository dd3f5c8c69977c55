"""How fast an engine is while other processes keep cores busy, beside itself on a quiet machine.

On a laptop somebody always computes something. An engine whose threads wait for each other may then lose
more than the core that the other has: this is seen only here.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from machine import THREAD_VARIABLES, environment
from results import Row

COUNT = "while True: pass"
COPY = "import numpy as np; a = np.ones(25_000_000); b = a.copy()\nwhile True: np.copyto(b, a)"  # 200 MB each
NEIGHBOURS: dict[str, Sequence[str]] = {
    "nobody": (),
    "one busy process": (COUNT,),
    "two": (COUNT, COUNT),
    "one that copies memory": (COPY,),
}
SETTLE = 0.5  # seconds until the neighbours are busy

Speed = Callable[[], float]


@contextmanager
def neighbours(programs: Sequence[str]) -> Iterator[None]:
    """Keep processes busy inside the ``with`` block."""
    started = [subprocess.Popen([sys.executable, "-c", each], env=environment(1)) for each in programs]
    try:
        time.sleep(SETTLE if started else 0)
        if any(each.poll() is not None for each in started):
            raise SystemExit("A process that was to keep a core busy has ended.")
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def users_environment() -> dict[str, str]:
    """Build the environment of a user who has named no number of threads: an engine may choose it."""
    return {name: value for name, value in environment(1).items() if name not in THREAD_VARIABLES}


def measure_beside(sides: dict[str, Speed], rounds: int, say: Callable[[str], None]) -> tuple[list[Row], ...]:
    """Measure every side beside all neighbours, in turn, round after round.

    sides  {name: what measures it once, in tokens/s}

    Returns lines with each side against itself on a quiet machine, and with the first against each other.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds):
        for busy, programs in NEIGHBOURS.items():
            for side, speed in sides.items():
                say(f"beside {busy}: {side}, round {turn + 1} of {rounds}")
                with neighbours(programs):
                    found.setdefault((side, busy), []).append(speed())
    quiet, *loads = NEIGHBOURS
    first, *others = sides
    kept = [
        Row(f"{side}, beside {busy}", "tokens/s", found[side, busy], found[side, quiet])
        for side in sides
        for busy in loads
    ]
    against = [
        Row(f"than {other}, beside {busy}", "tokens/s", found[first, busy], found[other, busy])
        for other in others
        for busy in NEIGHBOURS
    ]
    return kept, against
