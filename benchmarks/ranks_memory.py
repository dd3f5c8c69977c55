"""How much memory each of several processes takes that share a model, beside one process that has all of it.

    python benchmarks/checkpoint.py llama-1.1b float32 DIRECTORY
    python benchmarks/ranks_memory.py DIRECTORY --dtype auto int8

Each process loads its part, and together they read a prompt of random tokens and generate some more. What
counts is what a process then has in memory, as Linux says in /proc: its own, and the pages of the mapped
file that it has touched. Beside it stands what it had before it loaded anything, Python with NumPy and MPI,
which a larger model does not make larger. Ratios are to the one process: of all of it, and of what the model
has added.

    python benchmarks/ranks_memory.py DIRECTORY --in-memory --limit 5.4

gives each process so many GB of memory of its own (``ulimit -d``), and copies the weights there: what is too
much for one process, two may have.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import together

import tinystar_np as ts
from tinystar_np.ranks import DIVIDED

SECONDS = 0.2
"""Between two looks at a process's memory."""
STAY = 15
"""So many looks long rank 0 stays after the last token."""


class Memory(NamedTuple):
    """MB that a process has in memory: of its own, and pages of mapped files."""

    own: float
    mapped: float

    @classmethod
    def now(cls) -> Self:
        """Read what this process has."""
        said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return cls(*(int(said[key].split()[0]) * 1024e-6 for key in ("RssAnon", "RssFile")))


class Watch(threading.Thread):
    """Looks at the memory of this process until ``stop``."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._looks, self._ended = [Memory.now()], threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SECONDS):
            self._looks.append(Memory.now())

    def stop(self) -> Memory:
        """Return what was there for most of the time that rank 0 stayed: a model is freed at its end."""
        self._ended.set()
        self.join()
        return sorted(self._looks[-STAY:], key=sum)[len(self._looks[-STAY:]) // 2]


class Found(NamedTuple):
    """What a process says at its end, in MB.

    before  it loaded anything
    own     after the text
    mapped  of files, after the text
    most    that it ever had
    speed   tokens per second; 0 of ranks that follow
    """

    name: str
    before: float
    own: float
    mapped: float
    most: float
    speed: float

    def beside(self, one: "Found | None") -> str:
        """Describe it in a line, with its ratios to the one process."""
        all_of_it = self.own + self.mapped
        line = (
            f"  {self.name:15} {all_of_it:7.0f} MB (own {self.own:.0f}, of the file {self.mapped:.0f}; "
            f"{self.before:.0f} before loading; at most {self.most:.0f})"
        )
        if one is not None:
            whole = one.own + one.mapped
            added = (all_of_it - self.before) / (whole - one.before)
            line += f"  {all_of_it / whole:.3f}, of the model {added:.3f}, at most {self.most / one.most:.3f}"
        return line + (f"  {self.speed:.2f} tokens/s" if self.speed else "")


def be_one(given: argparse.Namespace, way: str) -> None:
    """Be one of the processes, or the only one: load, generate, and say how much memory that took."""
    ranks = ts.MpiRanks() if way else None
    before = sum(Memory.now())
    if given.limit is not None:
        limit = int(given.limit * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    watch = Watch()
    watch.start()
    name, speed = "one process" if ranks is None else f"{way}, rank {ranks.rank}", 0.0
    if ranks is not None and ranks.rank:
        ts.follow(ranks)
    elif ranks is None:
        speed = generate(given, None, way)
    else:
        with ranks:
            speed = generate(given, ranks, way)
    own, mapped = watch.stop()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6
    line = json.dumps(Found(name, before, own, mapped, most, speed))
    os.write(1, f"{line}\n".encode())  # in one piece, beside those of other ranks


def generate(given: argparse.Namespace, ranks: ts.MpiRanks | None, way: str) -> float:
    """Load, read a prompt, generate some tokens, and stay for some time; returns tokens per second."""
    in_memory, parallel = given.in_memory, way or "auto"
    model, _ = ts.load(given.directory, given.dtype[0], in_memory=in_memory, ranks=ranks, parallel=parallel)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, given.prompt)
    cache = model.new_cache(capacity=given.prompt + given.new)
    logits, start = model(ids, cache, last_only=True), time.perf_counter()
    for _ in range(given.new):
        logits = model([int(logits[-1].argmax())], cache, last_only=True)
    speed = given.new / (time.perf_counter() - start)
    time.sleep(STAY * SECONDS)
    return speed


def measure(given: argparse.Namespace, dtype: str, way: str) -> list[Found]:
    """Start the processes of one way, or the one process; returns what they say, [] where they end early."""
    own = [sys.executable, __file__, *sys.argv[1:], "--dtype", dtype, "--be", way]
    start = together.mpiexec(given.ranks if way else 1)
    env = os.environ | together.ENVIRONMENT
    done = subprocess.run([*start, *own], check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line] or ["It ended early."]
        print(f"  {way or 'one process'}: {said[-1]}", flush=True)
        return []
    return sorted(Found(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("["))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="a model, or a GGUF file")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--parallel", choices=DIVIDED, nargs="+", default=list(DIVIDED))
    parser.add_argument("--dtype", nargs="+", default=["auto"])
    parser.add_argument("--prompt", type=int, default=256, help="tokens, so that all experts are chosen")
    parser.add_argument("--new", type=int, default=10, help="tokens")
    parser.add_argument("--limit", type=float, help="GB of memory of its own that each process may have")
    parser.add_argument("--in-memory", action="store_true", help="copy float32 matrices out of the file")
    parser.add_argument("--be", choices=("", *DIVIDED), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be is not None:
        be_one(given, given.be)
        return
    for dtype in given.dtype:
        print(f"{dtype}:", flush=True)
        one = None
        for way in ("", *given.parallel):
            for found in measure(given, dtype, way):
                print(found.beside(one), flush=True)
                one = one or (found if not way else None)


if __name__ == "__main__":
    main()
