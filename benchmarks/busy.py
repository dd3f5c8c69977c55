"""Other processes that keep cores busy, to see how fast an engine is beside them.

On a laptop somebody always computes something. An engine whose threads wait for each other may then lose
more than the core that the other has: this is seen only here.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
STARTED_WITH = dict(os.environ)  # before this package is imported, which tells OpenBLAS something of its own
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
COUNT = "while True: pass"
COPY = "import numpy as np; a = np.ones(25_000_000); b = a.copy()\nwhile True: np.copyto(b, a)"  # 200 MB each
NEIGHBOURS: dict[str, Sequence[str]] = {
    "nobody": (),
    "one busy process": (COUNT,),
    "two": (COUNT, COUNT),
    "one that copies memory": (COPY,),
}
SETTLE = 0.5  # seconds until the neighbours are busy


def environment(threads: int | None) -> dict[str, str]:
    """Build the environment of a measured process; without threads, as where a user names none."""
    env = {name: value for name, value in STARTED_WITH.items() if name not in THREAD_VARIABLES}
    env |= {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
    paths = [str(HERE), str(HERE.parent), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    env["TOKENIZERS_PARALLELISM"] = "false"
    env["HF_HUB_OFFLINE"] = "1"  # the model is on this disk; nobody shall wait for the network
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second start finds compiled bytecode
    return env


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
