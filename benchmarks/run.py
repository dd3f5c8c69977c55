"""Measure tinystar_np beside another engine on this machine, and print ratios.

    python benchmarks/run.py                                       GPT-2 124M beside transformers, float32
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
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from busy import HERE, NEIGHBOURS, STARTED_WITH, THREAD_VARIABLES, environment, neighbours
from engines import ENGINES
from shapes import SHAPES

from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import progress_line, say_table
from tinystar_np.cli.wording import speed_of
from tinystar_np.errors import TinyStarError
from tinystar_np.fast.machine import usable_cores
from tinystar_np.inspection.engines import EngineProcess
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.inspection.speed import Rounds, Say, Task, by_turns

TASKS = ("decode", "generate", "prefill", "ask", "read", "floor")
SPEED, MEMORY = "tokens/s", "peak GB"
MORE_IS_BETTER = ("tokens/s", "GB/s")
LEAST_SECONDS, LEAST_PASSES = 1.0, 3  # of a prompt, read several times
WARM_UP = 4  # tokens
PROMPT = "The capital city of France is"

# What the installed ask-gpt2 does; written out so that it is this checkout that is measured.
ASK = "import sys; from tinystar_np.cli.main import ask_gpt2; sys.exit(ask_gpt2())"


@dataclass(frozen=True)
class Side:
    """An engine and how it computes, "transformers:bfloat16".

    threads  None: how many is the engine's to choose
    """

    name: str
    dtype: str
    model: Path = Path()
    threads: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Side":
        name, _, dtype = text.partition(":")
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(f"no engine {name!r}; there are {', '.join(ENGINES)}")
        return cls(name, dtype or "float32")

    def __str__(self) -> str:
        return self.name if self.dtype == "float32" else f"{self.name} {self.dtype}"

    @contextmanager
    def engine(self) -> Iterator[EngineProcess]:
        """Load the model in a process of its own."""
        env = environment(self.threads)
        with EngineProcess(self.model, self.name, ENGINES[self.name], env) as engine:
            engine.load(self.dtype, self.threads or usable_cores())
            yield engine


Values = dict[str, float]
Measurement = tuple[str, Callable[[Side], Values], dict[str, tuple[str, str]]]
"""A task, what does it once on a side, and {what that returns: (name in the table, unit)}."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a quantity that both sides were measured in, round after round."""

    name: str
    unit: str
    ours: Rounds
    theirs: Rounds

    @property
    def ratios(self) -> Rounds:
        """How many times better ours is."""
        more = self.unit in MORE_IS_BETTER
        return self.ours.over(self.theirs) if more else self.theirs.over(self.ours)

    def cells(self) -> tuple[str, ...]:
        ratios, middle = self.ratios, (speed_of(side.median) for side in (self.ours, self.theirs))
        spread = f"{ratios.lowest:.2f} – {ratios.highest:.2f}"
        return self.name, self.unit, *middle, f"{ratios.median:.2f}", spread

    def facts(self) -> dict[str, object]:
        shown = {"name": self.name, "unit": self.unit, "ours": self.ours.values, "theirs": self.theirs.values}
        return {**shown, "ratios": self.ratios.values, "ratio": self.ratios.median}


def some_rows(tokens: int, rows: int = 1) -> list[list[int]]:
    chosen = random.Random(0)
    return [chosen.choices(range(30_000), k=tokens) for _ in range(rows)]


def prefill(tokens: int, side: Side) -> Values:
    """Read a prompt, several times; its tokens by the median time."""
    with side.engine() as engine:
        ids = some_rows(tokens)
        engine.turn(ids, 0)
        seconds: list[float] = []
        while sum(seconds) < LEAST_SECONDS or len(seconds) < LEAST_PASSES:
            seconds.append(engine.turn(ids, 0)[0])
    return {SPEED: tokens / median(seconds)}


def decode(task: Task, side: Side) -> Values:
    """Generate, the model called once for the next token of every row; the prompts' time does not count."""
    with side.engine() as engine:
        ids = some_rows(task.tokens, task.rows)
        engine.turn(ids, WARM_UP)
        found = {SPEED: task.speed(engine.turn(ids, task.new)), MEMORY: engine.peak() / 1e9}
        if side.name.startswith("tinystar_np"):
            found["GB/token"] = engine.ask("read_per_token") / 1e9
    return found


def generate(task: Task, side: Side) -> Values:
    """Generate with the library's own loop, sampler and stop rules included; the prompt's time counts."""
    with side.engine() as engine:
        (ids,) = some_rows(task.tokens)
        engine.ask("generate", ids=ids, new=WARM_UP)
        return {SPEED: task.new / engine.ask("generate", ids=ids, new=task.new)}


def ask(new: int, side: Side) -> Values:
    """Start a program that answers a prompt and wait for its end: seconds, and peak memory."""
    if side.name == "transformers":
        arguments = [str(HERE / "transformers_ask.py"), str(side.model), side.dtype, str(new), PROMPT]
    else:
        arguments = ["-c", ASK, "--model", str(side.model), "--dtype", side.dtype, "--temperature", "0"]
        arguments += ["--max-tokens", str(new), PROMPT]
        arguments += ["--in-memory"] if side.name == "tinystar_np_in_memory" else []
    how = {"env": environment(side.threads), "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], **how) as process:
        complaint = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone; getrusage mixes all children
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ask on {side} ended with exit code {process.returncode}:\n{complaint}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, MEMORY: usage.ru_maxrss * unit / 1e9}


def measurements(options: argparse.Namespace) -> Iterator[Measurement]:
    after = f"{options.new} tokens after {options.prompt}"
    for rows in options.batch:
        name = f"decode {f'{rows} × ' if rows > 1 else ''}{after}"
        shown = {SPEED: (name, SPEED)} | ({MEMORY: ("peak memory of that", "GB")} if rows == 1 else {})
        yield ("decode", partial(decode, Task(rows, options.prompt, options.new)), shown)
    one = Task(1, options.prompt, options.new)
    yield ("generate", partial(generate, one), {SPEED: (f"generate {after}", SPEED)})
    for tokens in options.prefill:
        yield ("prefill", partial(prefill, tokens), {SPEED: (f"prefill {tokens} tokens", SPEED)})
    shown = {"seconds": (f"from the shell to the end of {options.ask} tokens", "seconds")}
    shown |= {MEMORY: ("peak memory of that run", "GB")}
    yield ("ask", partial(ask, options.ask), shown)


def compare(what: Measurement, options: argparse.Namespace, progress: Say) -> list[Row]:
    """Measure both engines in turn, one pair per round."""
    task, measure, rows = what
    sides = [partial(measure, side) for side in (options.ours, options.theirs)]
    if task == "ask":  # elsewhere all is warmed up; a whole program finds its files the second time
        by_turns({"warming up": sides}, 1, progress)
    name, _ = next(iter(rows.values()))
    ours, theirs = by_turns({name: sides}, options.rounds, progress)[name]

    def of(values: list[Values], quantity: str) -> Rounds:
        return Rounds(tuple(each[quantity] for each in values))

    return [Row(*names, of(ours, quantity), of(theirs, quantity)) for quantity, names in rows.items()]


def bandwidth(options: argparse.Namespace, progress: Say) -> list[Row]:
    """Measure bare products in turn with decoding: what share of reading the weights alone is reached."""

    def bare() -> float:
        with options.ours.engine() as engine:
            return engine.ask("bandwidth") / 1e9

    def read() -> float:
        found = decode(Task(1, options.prompt, options.new), options.ours)
        return found[SPEED] * found["GB/token"]

    name = f"decode {options.new} tokens, and bare products alone"
    theirs, ours = by_turns({name: [bare, read]}, options.rounds, progress)[name]
    return [Row(name, "GB/s", Rounds(tuple(ours)), Rounds(tuple(theirs)))]


def floor(options: argparse.Namespace, progress: Say) -> Iterator[Row]:
    """Measure whole calls in turn with the products by their matrices alone, as the model has them: ms."""
    calls: list[tuple[str, str, dict[str, object]]] = []
    for rows in options.batch:
        given = {"ids": some_rows(options.prompt, rows), "new": options.new}
        calls.append(("a token" if rows == 1 else f"a token of {rows} texts", "floor_of_tokens", given))
    for tokens in options.prefill:
        given = {"ids": some_rows(tokens), "rounds": options.rounds}
        calls.append((f"a prompt of {tokens}", "floor_of_prompt", given))
    mapped = replace(options.ours, name="tinystar_np")
    in_memory = [replace(mapped, name="tinystar_np_in_memory")] if mapped.dtype == "float32" else []
    for name, method, given in calls:
        for side in (mapped, *in_memory):  # other types always are
            progress(f"floor: {name}, {side}")
            with side.engine() as engine:
                whole, bare = engine.ask(method, **given)
            yield Row(f"{name}, {side}", "ms", Rounds(tuple(whole)), Rounds(tuple(bare)))


def beside_neighbours(options: argparse.Namespace, progress: Say) -> tuple[list[Row], list[Row]]:
    """Measure generating while other processes keep cores busy: ours, ours with one thread, and theirs.

    Returns lines with each side against itself on a quiet machine, and with the first against each other.
    """
    task = Task(1, options.prompt, options.new)

    def beside(busy: str, side: Side) -> float:
        with neighbours(NEIGHBOURS[busy]):
            return generate(task, side)[SPEED]

    sides = {
        str(options.ours): replace(options.ours, threads=None),
        f"{options.ours} with one thread": replace(options.ours, threads=1),
        str(options.theirs): options.theirs,
    }
    turns = {busy: [partial(beside, busy, side) for side in sides.values()] for busy in NEIGHBOURS}
    found = {
        busy: [Rounds(tuple(values)) for values in speeds]
        for busy, speeds in by_turns(turns, options.rounds, progress).items()
    }
    kept, against = [], []
    for i, name in enumerate(sides):
        for busy, speeds in found.items():
            if busy != "nobody":
                kept.append(Row(f"{name}, beside {busy}", SPEED, speeds[i], found["nobody"][i]))
            if i:
                against.append(Row(f"than {name}, beside {busy}", SPEED, speeds[0], speeds[i]))
    return kept, against


def prepare(shape: str, dtype: str, directory: Path) -> Path:
    """Make the model unless it is there from an earlier run."""
    model = directory / f"{shape}-{dtype}"
    if not (model / "config.json").exists():
        print(f"Making a random model in {model}", file=sys.stderr)
        # A process of its own: on Linux, children begin with their parent's peak memory on their account.
        command = [sys.executable, str(HERE / "checkpoint.py"), shape, dtype, str(model)]
        subprocess.run(command, env=environment(1), check=True)
    return model


def describe(options: argparse.Namespace) -> dict[str, object]:
    """Say what the figures depend on."""
    about: dict[str, object] = {**describe_machine(), "threads": options.threads}
    about |= {name: version(name) for name in ("tokenizers", "torch", "transformers") if find_spec(name)}
    told = [f"{name}={value}" for name, value in sorted(STARTED_WITH.items()) if name.startswith("OPENBLAS_")]
    about["OpenBLAS is told"] = " ".join(x for x in told if not x.startswith(THREAD_VARIABLES)) or None
    return about | {"model": options.shape, "stored": options.stored, "warning": load_warning()}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Measure tinystar_np beside another engine.")
    parser.set_defaults(color="auto", quiet=False)
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
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be 1 or more")
    return options


def main() -> None:
    options = parsed()
    about = describe(options)
    ours, theirs = str(options.ours), str(options.theirs)
    better = "times better", "from – to"
    tables: list[tuple[tuple[str, ...], list[Row]]] = []
    made = nullcontext(options.workdir) if options.workdir else tempfile.TemporaryDirectory()
    with made as directory, progress_line(options) as progress:
        model = prepare(options.shape, options.stored, Path(directory))
        options.ours = replace(options.ours, model=model, threads=options.threads)
        options.theirs = replace(options.theirs, model=model, threads=options.threads)
        about["weights, MB"] = round((model / "model.safetensors").stat().st_size / 1e6)
        say("\n".join(f"{key}: {value}" for key, value in about.items() if value is not None))
        wanted = [what for what in measurements(options) if what[0] in options.only]
        rows = [row for what in wanted for row in compare(what, options, progress)]
        tables.append((("", "unit", ours, theirs, *better), rows))
        if "read" in options.only and options.ours.name == "tinystar_np":  # who says how much it reads
            tables.append((("", "unit", ours, "bare products", *better), bandwidth(options, progress)))
        if "floor" in options.only and options.ours.name.startswith("tinystar_np"):
            head = ("", "unit", "whole", "bare products", "share", "from – to")
            tables.append((head, list(floor(options, progress))))
        if "busy" in options.only:
            kept, against = beside_neighbours(options, progress)
            after = f"after a prompt of {options.prompt}"
            tables.append(((after, "unit", "busy", "quiet", "share", "from – to"), kept))
            tables.append((("", "unit", ours, "the other", *better), against))
    for head, rows in tables:
        if rows:
            say()
            say_table(head, [row.cells() for row in rows], options, left=(0, 1))
    tokens = f", for a token's floor {options.new}" if "floor" in options.only else ""
    say(f"\nMedians of the rounds ({options.rounds}{tokens}). Ratios are of the two runs of one round.")
    if options.json:
        found = {"about": about, "rows": [row.facts() for _, rows in tables for row in rows]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TinyStarError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
