"""Measure a model that several processes share, beside the same in one process.

    python benchmarks/ranks.py gpt2 smollm2-135m --rounds 5
    python benchmarks/ranks.py tiny-llama --rounds 1 --new 2 --prefill 8 --batch 2      a quick try
    python benchmarks/ranks.py --wire                                  messages and sums between ranks alone

Starts mpiexec itself, which must be installed: pip install 'tinystar_np[ranks]'. A model with random weights
is made first. In each round one process, and the ranks in each way to share the model, are started in turn,
and do the same; a ratio compares two runs of one round. All are started as users start them, without a number
of threads. The ranks are on this machine.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import together
from busy import environment
from checkpoint import write
from shapes import SHAPES

from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import progress_line, say_table
from tinystar_np.cli.wording import speed_of
from tinystar_np.errors import TinyStarError
from tinystar_np.inspection.engines import EngineProcess
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.inspection.speed import Rounds, Say, Task, by_turns
from tinystar_np.ranks import DIVIDED

ALONE, ONE_THREAD = "one process", "with one thread"
SIZES = (
    576,
    768,
    4096,
    8192,
    131_072,
)  # numbers of a message or sum: D of some models, and of a prompt's T·D
PASSES = 1000  # of each


@contextmanager
def started(ranks: int, engine: str, directory: Path, threads: int | None = None) -> Iterator[EngineProcess]:
    """Start an engine of rank_engines.py on so many ranks; without mpiexec where that is 1."""
    env = environment(threads) | together.ENVIRONMENT
    with EngineProcess(directory, engine, f"rank_engines:{engine}", env, together.mpiexec(ranks)) as process:
        yield process
        process.ask("end")


def speeds(tasks: Sequence[Task], dtype: str, ranks: int, how: str, directory: Path) -> list[float]:
    """Start one side, and do all tasks once: tokens/s of each."""
    engine = "Alone" if ranks == 1 else "Shared"
    with started(ranks, engine, directory, 1 if how == ONE_THREAD else None) as process:
        process.ask("load", dtype=dtype, parallel=how)
        return process.ask("speeds", tasks=tasks)


def compare(
    shape: str, options: argparse.Namespace, directory: Path, progress: Say
) -> Iterator[dict[str, object]]:
    """Measure one shape: for each task and side, tokens/s of all rounds, and the ratios to one process."""
    tasks = [Task(1, options.prompt, options.new)]
    tasks += [Task(rows, options.prompt, options.new) for rows in options.batch]
    tasks += [Task(1, tokens, 0) for tokens in options.prefill]
    sides = {ALONE: (1, ALONE), f"{ALONE}, one thread": (1, ONE_THREAD)}
    sides |= {f"{way}, {options.ranks} ranks": (options.ranks, way) for way in options.parallel}
    turns = {
        dtype: [partial(speeds, tasks, dtype, *side, directory) for side in sides.values()]
        for dtype in options.dtype
    }
    for dtype, found in by_turns(turns, options.rounds, progress).items():
        for t, task in enumerate(tasks):
            of_sides = [Rounds(tuple(of_round[t] for of_round in side)) for side in found]
            for name, rounds in zip(sides, of_sides, strict=True):
                about = {"shape": shape, "type": dtype, "task": str(task), "side": name}
                yield {**about, "speed": rounds, "ratio": rounds.over(of_sides[0])}


def wire(options: argparse.Namespace, progress: Say) -> Iterator[tuple[str, Rounds]]:
    """Measure what passes between ranks: microseconds of a message, and of a sum."""
    with started(options.ranks, "Wire", Path()) as process:
        for numbers in SIZES:
            for what, name, of_each in (
                ("rounds", "a message", options.ranks),
                ("sums", "a sum", 1),
            ):
                progress(f"{name} of {numbers} numbers")
                count = max(20, PASSES * SIZES[0] // numbers)
                asked = {"what": what, "numbers": numbers, "count": count}
                seconds = [process.ask("times", **asked) / of_each for _ in range(options.rounds)]
                yield f"{name} of {numbers} numbers", Rounds(tuple(each * 1e6 for each in seconds))


def row_of(found: dict[str, object]) -> tuple[str, ...]:
    """Return the cells of one line of a table."""
    speed, ratio = found["speed"], found["ratio"]
    assert isinstance(speed, Rounds)
    assert isinstance(ratio, Rounds)
    spread = f"{ratio.lowest:.2f} – {ratio.highest:.2f}"
    first = (str(found[name]) for name in ("task", "type", "side"))
    return *first, speed_of(speed.median), f"{ratio.median:.2f}", spread


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ranks.py", description=(__doc__ or "").split("\n")[0])
    parser.set_defaults(color="auto", quiet=False)
    add = parser.add_argument
    add("shapes", nargs="*", metavar="SHAPE", help=f"shapes of the random models, of {', '.join(SHAPES)}")
    add("--wire", action="store_true", help="measure messages and sums as well")
    add("--ranks", type=int, default=2, help="processes that share the model (default: 2)")
    add("--parallel", nargs="+", choices=DIVIDED, default=DIVIDED, help="how (default: both ways)")
    add("--dtype", nargs="+", default=["float32", "int8"], help="element types (float32 int8)")
    add("--rounds", type=int, default=5, help="times that each side is started (default: 5)")
    add("--prompt", type=int, default=16, help="prompt tokens before decoding (default: 16)")
    add("--new", type=int, default=64, help="tokens to decode (default: 64)")
    add("--batch", type=int, nargs="*", default=[4], help="rows decoded at once, after one (default: 4)")
    add("--prefill", type=int, nargs="*", default=[512], help="prompt lengths (default: 512)")
    add("--workdir", type=Path, help="where random models are made and kept (default: a temporary directory)")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args()
    if unknown := set(options.shapes) - SHAPES.keys():
        parser.error(f"no shape {min(unknown)!r}")
    if options.rounds < 1 or options.ranks < 2:
        parser.error("--rounds must be 1 or more, and --ranks 2 or more")
    if not options.shapes and not options.wire:
        parser.error("name a shape, or --wire")
    return options


def main() -> None:
    options = parsed()
    about = describe_machine() | {"warning": load_warning()}
    say("\n".join(f"{key}: {value}" for key, value in about.items() if value is not None))
    found: list[dict[str, object]] = []
    with TemporaryDirectory() as directory, progress_line(options) as progress:
        for shape in options.shapes:
            model = (options.workdir or Path(directory)) / f"{shape}-float32"
            if not (model / "config.json").exists():
                write(shape, "float32", model)
            found += compare(shape, options, model, progress)
        passed = list(wire(options, progress)) if options.wire else []
    for shape in options.shapes:
        rows = [row_of(each) for each in found if each["shape"] == shape]
        say()
        say_table((shape, "", "", "tokens/s", "ratio", "from – to"), rows, options, left=(0, 1, 2))
    if passed:
        say()
        spread = [(name, f"{us.median:.0f}", f"{us.lowest:.0f} – {us.highest:.0f}") for name, us in passed]
        say_table((f"{options.ranks} ranks", "µs", "from – to"), spread, options)
    if options.json:
        kept: list[object] = [
            {name: each.values if isinstance(each, Rounds) else each for name, each in row.items()}
            for row in found
        ]
        kept += [{"what": name, "us": us.values} for name, us in passed]
        options.json.write_text(json.dumps({"about": about, "rows": kept}, indent=2) + "\n")
    say(f"\nMedians of {options.rounds} rounds. Ratios are to one process as it is, in the same round.")


if __name__ == "__main__":
    try:
        main()
    except TinyStarError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
