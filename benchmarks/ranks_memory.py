"""How much memory each of several processes takes that share a model, beside one process that has all of it.

    python benchmarks/checkpoint.py llama-1.1b float32 DIRECTORY
    python benchmarks/ranks_memory.py DIRECTORY --dtype auto int8

Each process loads its part, and together they read a prompt of random tokens and generate some more. What
counts is what the process then has in memory, as Linux says in /proc: its own, and the pages of the mapped
file that it has touched. With --limit none may have more address space than so many GB.
"""

import argparse
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

import tinystar_np as ts
from tinystar_np.ranks import DIVIDED

SECONDS = 0.2
"""Between two looks at a process's memory."""
STAY = 20
"""So many looks long rank 0 stays after the last token."""


def megabytes() -> tuple[float, float]:
    """Return MB that this process has in memory now: its own, and of mapped files."""
    said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(said[key].split()[0]) * 1024e-6 for key in ("RssAnon", "RssFile"))
    return own, mapped


class Watch(threading.Thread):
    """Looks at the memory of this process until ``stop``."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._looks, self._ended = [megabytes()], threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SECONDS):
            self._looks.append(megabytes())

    def stop(self) -> tuple[float, float]:
        """Return what was there for most of the time that rank 0 stayed: a model is freed at its end."""
        self._ended.set()
        self.join()
        return sorted(self._looks[-STAY:], key=sum)[len(self._looks[-STAY:]) // 2]


def be_one(given: argparse.Namespace, way: str) -> None:
    """Be one of the processes, or the only one: load, generate, and say how much memory that took."""
    if given.limit is not None:
        limit = int(given.limit * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watch = Watch()
    watch.start()
    ranks = ts.MpiRanks() if way else None
    name = "one process" if ranks is None else f"{way}, rank {ranks.rank}"
    if ranks is not None and ranks.rank:
        ts.follow(ranks)
    elif ranks is None:
        generate(*ts.load(given.directory, given.dtype[0]), given)
    else:
        with ranks:
            generate(*ts.load(given.directory, given.dtype[0], ranks=ranks, parallel=way), given)
    own, mapped = watch.stop()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6
    line = (
        f"{name:16} {own + mapped:8.0f} MB (its own {own:.0f}, of the file {mapped:.0f}, at most {most:.0f})"
    )
    os.write(1, f"{line}\n".encode())  # in one piece, beside those of other ranks


def generate(model: ts.TinyStar, tokenizer: object, given: argparse.Namespace) -> None:
    """Read a prompt and generate some tokens, and stay for some time."""
    ids = np.random.default_rng(0).integers(0, model.vocab_size, given.prompt)
    ts.generate_ids(model, ids.tolist(), max_new_tokens=given.new, temperature=0.0)
    time.sleep(STAY * SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="a model, or a GGUF file")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--parallel", choices=DIVIDED, nargs="+", default=list(DIVIDED))
    parser.add_argument("--dtype", nargs="+", default=["auto"])
    parser.add_argument("--prompt", type=int, default=256, help="tokens, so that all experts are chosen")
    parser.add_argument("--new", type=int, default=10, help="tokens")
    parser.add_argument("--limit", type=float, help="GB of address space that each process may have")
    parser.add_argument("--be", choices=("", *DIVIDED), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be is not None:
        be_one(given, given.be)
        return
    for dtype in given.dtype:
        for way in ("", *given.parallel):
            own = [sys.executable, __file__, *sys.argv[1:], "--dtype", dtype, "--be", way]
            start = ["mpiexec", "-n", str(given.ranks), "--oversubscribe"] if way else []
            done = subprocess.run([*start, *own], check=False, capture_output=True, text=True)
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            print(f"{dtype}:\n{done.stdout.rstrip()}" if done.returncode == 0 else f"{dtype} {way}: {last}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
