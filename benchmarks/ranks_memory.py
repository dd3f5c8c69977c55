"""How much memory each of several processes takes that share a model, beside one process that has all of it.

    python benchmarks/checkpoint.py llama-1.1b float32 DIRECTORY
    python benchmarks/ranks_memory.py DIRECTORY --parallel heads --dtype auto int8

Each process loads its part, and together they read a prompt of random tokens and generate some more. What
counts is what the process then has in memory, as Linux says in /proc: its own, and the pages of the mapped
file that it has touched. The processes are on one machine and exchange messages through pipes: MPI takes as
much memory in each way.
"""

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tinystar_np import generate_ids
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.checkpoints.stored_matrix import ROUNDED
from tinystar_np.checkpoints.weight_table import HEAD
from tinystar_np.fast.threads import use_threads
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder
from tinystar_np.models.divided import Follower
from tinystar_np.models.fitted import fitted
from tinystar_np.models.text_part import text_config, text_tensors
from tinystar_np.ranks import PARALLEL, Part, layers_of_ranks
from tinystar_np.ranks.part import LAYER

MB = 1e6


class PipeRanks:
    """Processes that send messages through pipes; see tinystar_np/ranks/ranks.py."""

    def __init__(self, rank: int, ends: dict[int, Connection]):
        self.rank, self.size, self._ends = rank, len(ends) + 1, ends
        self.hosts = ("here",) * self.size
        self.fault = ""

    def send(self, message: object, to: int) -> None:
        self._ends[to].send(message)

    def receive(self, source: int) -> Any:
        return self._ends[source].recv()

    def sum(self, x: NDArray) -> NDArray:
        first, *others = self._from_all(x)
        total = first.copy()
        for other in others:
            total += other
        return total

    def gather(self, x: NDArray, *widths: object) -> NDArray:
        return np.concatenate(self._from_all(x), axis=-1)

    def _from_all(self, x: NDArray) -> list[NDArray]:
        """Exchange arrays through rank 0, since pipes hold little: all of them, in the ranks' order."""
        if self.rank:
            self.send(x, 0)
            found: list[NDArray] = self.receive(0)
            return found
        arrays = [x, *(self.receive(rank) for rank in range(1, self.size))]
        for rank in range(1, self.size):
            self.send(arrays, rank)
        return arrays

    def abort(self, code: int) -> NoReturn:
        raise SystemExit(code)


def layers_by_bytes(directory: Path, dtype: str, size: int) -> list[range]:
    """Divide the layers of a model so that the ranks hold as many bytes."""
    source = open_source(directory)
    raw = text_config(source.config)
    architecture, config = model_config(source, raw)
    checkpoint = text_tensors(source.checkpoint(raw), source.config)
    config, table = fitted(architecture, config, checkpoint)
    of_layers, beside = [0] * config.sizes["L"], 0
    for ours, row in table.rows.items():
        found = LAYER.match(ours)
        if found is not None:
            of_layers[int(found[1])] += int(np.prod(row.shape))
        elif ours == HEAD or HEAD not in table.rows or dtype in ROUNDED:  # a mapped one: few rows
            beside += int(np.prod(row.shape))
    return layers_of_ranks(of_layers, beside, size)


def build(directory: Path, dtype: str, part: Part | None) -> Decoder:
    """Load a part of a model, or all of it."""
    source = open_source(directory)
    raw = text_config(source.config)
    architecture, config = model_config(source, raw)
    checkpoint = text_tensors(source.checkpoint(raw), source.config)
    return architecture.from_checkpoint(config, checkpoint, (), dtype, part)


def in_memory() -> tuple[float, float, float]:
    """Return MB that this process has in memory now: its own, the file's; and the most at any time."""
    said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(said[key].split()[0]) * 1024 / MB for key in ("RssAnon", "RssFile"))
    return own, mapped, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def work(
    directory: Path,
    dtype: str,
    rank: int,
    ends: dict[int, Connection],
    way: str,
    lengths: tuple[int, int],
    limit: int | None,
    report: Connection,
) -> None:
    """Be one of the processes: load, generate, and say how much memory that took."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        use_threads()
        part = None
        if ends:
            layers = layers_by_bytes(directory, dtype, len(ends) + 1) if way == "layers" else None
            part = Part(PipeRanks(rank, ends), layers)
        model = build(directory, dtype, part)
        if rank:
            assert part is not None
            follow(Follower(model, part), part.ranks)
        else:
            prompt, new = lengths
            ids = np.random.default_rng(0).integers(0, model.vocab_size, prompt)
            generate_ids(model, ids.tolist(), max_new_tokens=new, temperature=0.0)
            for other in ends:
                ends[other].send(None)
        report.send(in_memory())
    except MemoryError as error:
        report.send(f"MemoryError: {error}")
    except OSError as error:  # a file that cannot be mapped
        report.send(f"{type(error).__name__}: {error}")


def follow(follower: Follower, ranks: PipeRanks) -> None:
    """Do what rank 0 says, until it says that it is done."""
    while (message := ranks.receive(0)) is not None:
        _, waiting, what = message
        follower.do(waiting, what)


def measured(
    directory: Path, dtype: str, size: int, way: str, lengths: tuple[int, int], limit: int | None
) -> list[Any]:
    """Let processes generate together; returns what each says."""
    context = multiprocessing.get_context("spawn")
    ends: list[dict[int, Connection]] = [{} for _ in range(size)]
    for a in range(size):
        for b in range(a):
            ends[a][b], ends[b][a] = context.Pipe()
    reports, processes = [], []
    for rank in range(size):
        mine, theirs = context.Pipe()
        arguments = (directory, dtype, rank, ends[rank], way, lengths, limit, theirs)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        reports.append(mine)
        processes.append(process)
    found = []
    for mine in reports:
        try:
            found.append(mine.recv())
        except EOFError:
            found.append("ended")
        if isinstance(found[-1], str):
            break
    for process in processes:
        process.kill()
        process.join()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="a model, or a GGUF file")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--parallel", choices=PARALLEL, nargs="+", default=list(PARALLEL))
    parser.add_argument("--dtype", nargs="+", default=["auto"])
    parser.add_argument("--prompt", type=int, default=256, help="tokens, so that all experts are chosen")
    parser.add_argument("--new", type=int, default=10, help="tokens")
    parser.add_argument("--limit", type=float, help="GB of address space that each process may have")
    given = parser.parse_args(arguments)
    limit = None if given.limit is None else int(given.limit * 1e9)
    for dtype in given.dtype:
        whole = 0.0
        for way in ("", *given.parallel):
            size = given.ranks if way else 1
            found = measured(given.directory, dtype, size, way, (given.prompt, given.new), limit)
            for rank, each in enumerate(found):
                name = f"{way}, rank {rank}" if way else "one process"
                if isinstance(each, str):
                    print(f"{dtype:9} {name:16} {each}", flush=True)
                    continue
                own, mapped, most = each
                whole = whole if way else own + mapped
                share = f"{(own + mapped) / whole:.3f}" if whole else ""
                print(
                    f"{dtype:9} {name:16} {own + mapped:8.0f} MB  {share:6} "
                    f"(its own {own:.0f}, of the file {mapped:.0f}; most while loading {most:.0f})",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
