"""Measure tinystar_np beside another engine on this machine, and print ratios.

    python benchmarks/run.py                                       GPT-2 124M beside transformers, float32
    python benchmarks/run.py --shape llama-1.1b --theirs llama.cpp
    python benchmarks/run.py --ours tinystar_np:int8 --theirs tinystar_np:float32
    python benchmarks/run.py --shape gpt2 --only floor             a token beside its matrix products alone
    python benchmarks/run.py --shape tiny --rounds 1 --only decode  a quick try
    python benchmarks/run.py --only busy                           beside other processes that compute

A model with random weights is made first. Then every measurement runs in a process of its own, ours and
theirs in turn, one pair after another; a ratio compares the two of one pair. (The floor is measured in turn
within one process, since it is of one model.)
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from busy import measure_beside, users_environment
from engines import ENGINES
from machine import HERE, describe, environment, load_warning, usable_cores
from results import Row, header, table
from shapes import SHAPES
from workers import COMMANDS, ask, versions

TASKS = ("decode", "generate", "prefill", "ask", "read", "floor")


@dataclass(frozen=True)
class Measurement:
    """A task with its arguments.

    rows  {what the worker prints: (name in the table, unit)}
    """

    task: str
    arguments: dict[str, int]
    rows: dict[str, tuple[str, str]]


def measurements(options: argparse.Namespace) -> Iterator[Measurement]:
    speed, memory = "tokens/s", "peak GB"
    sides = {options.ours.name, options.theirs.name}
    for rows in options.batch:
        if rows > 1 and not all(ENGINES[name].batches for name in sides):
            continue
        of = f"{rows} × " if rows > 1 else ""
        name = f"decode {of}{options.new} tokens after {options.prompt}"
        arguments = {"prompt": options.prompt, "new": options.new, "rows": rows}
        shown = {speed: (name, speed)} | ({memory: ("peak memory of that", "GB")} if rows == 1 else {})
        yield Measurement("decode", arguments, shown)
    name = f"generate {options.new} tokens after {options.prompt}"
    yield Measurement("generate", {"prompt": options.prompt, "new": options.new}, {speed: (name, speed)})
    for tokens in options.prefill:
        yield Measurement("prefill", {"tokens": tokens}, {speed: (f"prefill {tokens} tokens", speed)})
    if sides <= COMMANDS.keys():
        rows = {
            "seconds": (f"from the shell to the end of {options.ask} tokens", "seconds"),
            memory: ("peak memory of that run", "GB"),
        }
        yield Measurement("ask", {"new": options.ask}, rows)


@dataclass(frozen=True)
class Side:
    """An engine and the element type that it computes with, "transformers:bfloat16"."""

    name: str
    dtype: str

    @classmethod
    def parse(cls, text: str) -> "Side":
        name, _, dtype = text.partition(":")
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(f"no engine {name!r}; there are {', '.join(ENGINES)}")
        return cls(name, dtype or "float32")

    def __str__(self) -> str:
        return self.name if self.dtype == "float32" else f"{self.name} {self.dtype}"


def measure(
    side: Side,
    what: Measurement,
    model: Path,
    options: argparse.Namespace,
    env: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run one measurement of one engine in a process of its own."""
    env = env or environment(options.threads)
    if what.task == "ask":
        return ask(side.name, side.dtype, str(model), what.arguments["new"], env)
    spec: dict[str, Any] = {"engine": side.name, "task": what.task, "directory": str(model)}
    spec |= {"dtype": side.dtype, "threads": options.threads, **what.arguments}
    command = [sys.executable, str(HERE / "workers.py"), json.dumps(spec)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}, {what.task}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(what: Measurement, model: Path, options: argparse.Namespace) -> list[Row]:
    """Measure both engines in turn: a pair that does not count, then one pair per round."""
    rows = {quantity: Row(*names) for quantity, names in what.rows.items()}
    # Within a worker everything is warmed up; a whole program finds its files in memory the second time.
    for turn in range(-1 if what.task == "ask" else 0, options.rounds):
        progress(f"{what.task} {what.arguments}, round {turn + 1} of {options.rounds}")
        ours, theirs = (measure(side, what, model, options) for side in (options.ours, options.theirs))
        for quantity, row in rows.items():
            if turn >= 0:
                row.add(ours[quantity], theirs[quantity])
    progress("")
    return list(rows.values())


def bandwidth(model: Path, options: argparse.Namespace) -> Row:
    """Measure bare products in turn with decoding: what share of reading the weights alone is reached."""
    row = Row(f"decode {options.new} tokens, and bare products alone", "GB/s")
    decode = Measurement("decode", {"prompt": options.prompt, "new": options.new}, {})
    for turn in range(options.rounds):
        progress(f"bandwidth, round {turn + 1} of {options.rounds}")
        bare = measure(options.ours, Measurement("read", {}, {}), model, options)
        found = measure(options.ours, decode, model, options)
        row.add(found["tokens/s"] * found["GB/token"], bare["GB/s"])
    progress("")
    return row


def floor(model: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Measure whole calls in turn with the products by their matrices alone, as the model has them: ms."""
    calls: list[tuple[str, str, dict[str, int]]] = []
    for rows in options.batch:
        given = {"prompt": options.prompt, "new": options.new, "rows": rows}
        calls.append(("a token" if rows == 1 else f"a token of {rows} texts", "floor_of_tokens", given))
    for tokens in options.prefill:
        given = {"tokens": tokens, "rounds": options.rounds}
        calls.append((f"a prompt of {tokens}", "floor_of_prompt", given))
    dtype = options.ours.dtype
    in_memory = [Side("tinystar_np_in_memory", dtype)] if dtype == "float32" else []  # others always are
    for name, task, given in calls:
        for side in (Side("tinystar_np", dtype), *in_memory):
            progress(f"floor: {name}, {side}")
            found = measure(side, Measurement(task, given, {}), model, options)
            yield Row(f"{name}, {side}", "ms", found["whole"], found["bare"])
    progress("")


def beside_neighbours(model: Path, options: argparse.Namespace) -> tuple[list[Row], ...]:
    """Measure generating while other processes keep cores busy: ours, ours with one thread, and theirs."""
    what = Measurement("generate", {"prompt": options.prompt, "new": options.new}, {})
    alone = argparse.Namespace(**{**vars(options), "threads": 1})

    def speed(side: Side, options: argparse.Namespace, env: dict[str, str] | None = None) -> float:
        return measure(side, what, model, options, env)["tokens/s"]

    sides = {
        str(options.ours): lambda: speed(options.ours, options, users_environment()),
        f"{options.ours} with one thread": lambda: speed(options.ours, alone),
        str(options.theirs): lambda: speed(options.theirs, options),
    }
    found = measure_beside(sides, options.rounds, progress)
    progress("")
    return found


def progress(line: str) -> None:
    """Show what is going on: in one line of a terminal, line by line in a log."""
    if sys.stderr.isatty():
        print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
    elif line:
        print(line, file=sys.stderr, flush=True)


def prepare(shape: str, dtype: str, directory: Path) -> Path:
    """Make the model unless it is there from an earlier run."""
    model = directory / f"{shape}-{dtype}"
    if not (model / "config.json").exists():
        print(f"Making a random model in {model}", file=sys.stderr)
        # A process of its own: on Linux, children begin with their parent's peak memory on their account.
        command = [sys.executable, str(HERE / "checkpoint.py"), shape, dtype, str(model)]
        subprocess.run(command, env=environment(1), check=True)
    return model


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Measure tinystar_np beside another engine.")
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="gpt2", help="shape of the random model (default: gpt2, 124M)")
    sides = f"ENGINE[:DTYPE], of {', '.join(ENGINES)}"
    add("--ours", type=Side.parse, default="tinystar_np", help=f"{sides} (default: tinystar_np:float32)")
    add("--theirs", type=Side.parse, default="transformers", help="the other (default: transformers:float32)")
    add("--stored", choices=["float32", "bfloat16"], default="float32", help="element type of the file")
    add("--threads", type=int, default=usable_cores(), help="threads of both (default: the usable cores)")
    add("--rounds", type=int, default=5, help="pairs per measurement (default: 5)")
    add("--only", nargs="+", choices=(*TASKS, "busy"), default=TASKS, help="measure these alone")
    add("--prompt", type=int, default=64, help="prompt tokens before decoding (default: 64)")
    add("--new", type=int, default=96, help="tokens to decode (default: 96)")
    add("--batch", type=int, nargs="+", default=[1], help="rows decoded at once (default: 1)")
    add("--prefill", type=int, nargs="+", default=[64, 512], help="prompt lengths (64 512)")
    add("--ask", type=int, default=20, help="tokens of a whole run from the shell (default: 20)")
    add("--workdir", type=Path, help="where random models are made and kept (default: a temporary directory)")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    add("--plot", type=Path, metavar="FILE", help="draw the ratios into FILE (PNG or SVG; needs matplotlib)")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be 1 or more")
    if options.plot and not find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install matplotlib")
    return options


def main() -> None:
    options = arguments()
    about = {**describe(), "threads": options.threads}
    about |= versions(options.ours.name) | versions(options.theirs.name)
    about |= {"model": options.shape, "stored": options.stored, "warning": load_warning()}
    rows: list[Row] = []
    with nullcontext(options.workdir) if options.workdir else tempfile.TemporaryDirectory() as directory:
        model = prepare(options.shape, options.stored, Path(directory))
        about["weights, MB"] = round((model / "model.safetensors").stat().st_size / 1e6)
        print("\n".join(f"{key}: {value}" for key, value in about.items() if value is not None), end="\n\n")
        for what in measurements(options):
            if what.task in options.only:
                rows += compare(what, model, options)
        reads = "read" in options.only and options.ours.name == "tinystar_np"  # who says how much it reads
        read = [bandwidth(model, options)] if reads else []
        floors = "floor" in options.only and options.ours.name.startswith("tinystar_np")
        bare = list(floor(model, options)) if floors else []
        kept, against = beside_neighbours(model, options) if "busy" in options.only else ([], [])
    if rows:
        print(table(header(str(options.ours), str(options.theirs)), [row.cells() for row in rows]))
    if read:
        print("\n" + table(header(str(options.ours), "bare products"), [row.cells() for row in read]))
    if bare:
        names = ("", "unit", "whole", "bare products", "share", "from – to")
        print("\n" + table(names, [row.cells() for row in bare]))
    if kept:
        names = (f"after a prompt of {options.prompt}", "unit", "busy", "quiet", "share", "from – to")
        print("\n" + table(names, [row.cells() for row in kept]))
        print("\n" + table(header(str(options.ours), "the other"), [row.cells() for row in against]))
    tokens = f", for a token's floor {options.new}" if bare else ""
    print(f"\nMedians of the rounds ({options.rounds}{tokens}). Ratios are of the two runs of one round.")
    if options.json:
        found = {"about": about, "rows": [row.as_json() for row in rows + read + bare + kept + against]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.plot:
        from picture import draw

        draw(options.plot, rows, f"{options.shape}: {options.ours} beside {options.theirs}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
