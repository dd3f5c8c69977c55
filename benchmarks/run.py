"""Measure tinystar_np beside transformers on this machine, and print ratios.

    python benchmarks/run.py                                       GPT-2 124M, float32, on all cores
    python benchmarks/run.py --size tiny --rounds 1 --only decode  a quick try

A model with random weights is made first. Then every measurement runs in a process of its own, ours and
theirs in turn, one pair after another; a ratio compares the two of one pair.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint import SIZES
from machine import HERE, describe, environment, load_warning, usable_cores
from results import HEADER, Row, table
from workers import ask, versions

OURS, THEIRS = "tinystar_np", "transformers"
TASKS = ("decode", "generate", "prefill", "ask")


@dataclass(frozen=True)
class Measurement:
    """A task with its arguments.

    rows  {what the worker prints: (name in the table, unit)}
    """

    task: str
    arguments: dict[str, int]
    rows: dict[str, tuple[str, str]]


def measurements(options: argparse.Namespace) -> Iterator[Measurement]:
    speed = "tokens/s"
    for task in ("decode", "generate"):
        name = f"{task} {options.new} tokens after {options.prompt}"
        yield Measurement(task, {"prompt": options.prompt, "new": options.new}, {speed: (name, speed)})
    for tokens in options.prefill:
        yield Measurement("prefill", {"tokens": tokens}, {speed: (f"prefill {tokens} tokens", speed)})
    rows = {
        "seconds": (f"from the shell to the end of {options.ask} tokens", "seconds"),
        "peak bytes": ("peak memory of that run", "× weights"),
    }
    yield Measurement("ask", {"new": options.ask}, rows)


def measure(engine: str, what: Measurement, model: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one measurement of one engine in a process of its own."""
    env = environment(options.threads)
    if what.task == "ask":
        found = ask(engine, str(model), what.arguments["new"], env)
        return {**found, "peak bytes": found["peak bytes"] / weights_bytes(model)}
    spec: dict[str, Any] = {"engine": engine, "task": what.task, "directory": str(model)}
    spec |= {"dtype": options.dtype, "threads": options.threads, **what.arguments}
    command = [sys.executable, str(HERE / "workers.py"), json.dumps(spec)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{engine}, {what.task}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(what: Measurement, model: Path, options: argparse.Namespace) -> list[Row]:
    """Measure both engines in turn: a pair that does not count, then one pair per round."""
    rows = {quantity: Row(*names) for quantity, names in what.rows.items()}
    # Within a worker everything is warmed up; a whole program finds its files in memory the second time.
    for turn in range(-1 if what.task == "ask" else 0, options.rounds):
        progress(f"{what.task} {what.arguments}, round {turn + 1} of {options.rounds}")
        pair = {engine: measure(engine, what, model, options) for engine in (OURS, THEIRS)}
        for quantity, row in rows.items():
            if turn >= 0:
                row.add(pair[OURS][quantity], pair[THEIRS][quantity])
    progress("")
    return list(rows.values())


def progress(line: str) -> None:
    """Show what is going on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)


def prepare(size: str, directory: Path) -> Path:
    """Make the model unless it is there from an earlier run."""
    model = directory / size
    if not (model / "config.json").exists():
        print(f"Making a random model in {model}", file=sys.stderr)
        # A process of its own: on Linux, children begin with their parent's peak memory on their account.
        subprocess.run([sys.executable, str(HERE / "checkpoint.py"), size, str(model)], check=True)
    return model


def weights_bytes(model: Path) -> int:
    return (model / "model.safetensors").stat().st_size


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Measure tinystar_np beside transformers.")
    add = parser.add_argument
    add("--size", choices=SIZES, default="gpt2", help="shape of the random model (default: gpt2, 124M)")
    add("--dtype", choices=["float32"], default="float32", help="element type of both engines")
    add("--threads", type=int, default=usable_cores(), help="threads of both (default: the usable cores)")
    add("--rounds", type=int, default=5, help="pairs per measurement (default: 5)")
    add("--only", nargs="+", choices=TASKS, default=TASKS, help="measure these alone")
    add("--prompt", type=int, default=64, help="prompt tokens before decoding (default: 64)")
    add("--new", type=int, default=96, help="tokens to decode (default: 96)")
    add("--prefill", type=int, nargs="+", default=[64, 512, 1024], help="prompt lengths (64 512 1024)")
    add("--ask", type=int, default=20, help="tokens of a whole run from the shell (default: 20)")
    add("--workdir", type=Path, help="where random models are made and kept (default: a temporary directory)")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be 1 or more")
    return options


def main() -> None:
    options = arguments()
    about = {**describe(), "threads": options.threads, **versions(OURS), **versions(THEIRS)}
    about |= {"model": options.size, "dtype": options.dtype, "warning": load_warning()}
    rows: list[Row] = []
    with nullcontext(options.workdir) if options.workdir else tempfile.TemporaryDirectory() as directory:
        model = prepare(options.size, Path(directory))
        about["weights, MB"] = round(weights_bytes(model) / 1e6)
        print("\n".join(f"{key}: {value}" for key, value in about.items() if value is not None), end="\n\n")
        for what in measurements(options):
            if what.task in options.only:
                rows += compare(what, model, options)
    print(table(HEADER, [row.cells() for row in rows]))
    print(f"\nMedians of {options.rounds} rounds. times better = ours / theirs within one round.")
    if options.json:
        found = {"about": about, "rows": [row.as_json() for row in rows]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
