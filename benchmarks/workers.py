"""The things measured, one function each. A measurement is a process of its own, started by run.py:

    python benchmarks/workers.py '{"engine": "tinystar_np", "task": "prefill", "tokens": 512, ...}'

prints one line of JSON, {"tokens/s": 812.3}. ``ask`` measures a whole program from outside, in run.py.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines import ENGINES

HERE = Path(__file__).parent
Task = Callable[..., dict[str, float]]

LEAST_SECONDS, LEAST_PASSES = 1.0, 3
PROMPT = "The capital city of France is"

# What the installed ask-gpt2 does; written out so that it is this checkout that is measured.
ASK = "import sys; from tinystar_np.cli.main import ask_gpt2; sys.exit(ask_gpt2())"
COMMANDS: dict[str, Callable[[str, int], list[str]]] = {
    "tinystar_np": lambda directory, new: [
        *("-c", ASK, "--model", directory, "--max-tokens", str(new), "--temperature", "0", PROMPT)
    ],
    "transformers": lambda directory, new: [str(HERE / "transformers_ask.py"), directory, str(new), PROMPT],
}


def some_ids(count: int) -> list[int]:
    return random.Random(0).choices(range(50_000), k=count)


def prefill(engine: Any, tokens: int) -> dict[str, float]:
    """Read a prompt, several times; its tokens by the median time."""
    ids = some_ids(tokens)
    engine.prefill(ids)
    seconds: list[float] = []
    while sum(seconds) < LEAST_SECONDS or len(seconds) < LEAST_PASSES:
        start = time.perf_counter()
        engine.prefill(ids)
        seconds.append(time.perf_counter() - start)
    return {"tokens/s": tokens / sorted(seconds)[len(seconds) // 2]}


def decode(engine: Any, prompt: int, new: int) -> dict[str, float]:
    """Generate, the model called once for each token; the prompt's time does not count."""
    for steps in (4, new):  # the first round warms up
        state, token = engine.prefill(some_ids(prompt), room=steps)
        start = time.perf_counter()
        for _ in range(steps):
            token = engine.step(state, token)
    return {"tokens/s": new / (time.perf_counter() - start)}


def generate(engine: Any, prompt: int, new: int) -> dict[str, float]:
    """Generate with the library's own loop, sampler and stop rules included; the prompt's time counts."""
    ids = some_ids(prompt)
    engine.generate(ids, 4)
    start = time.perf_counter()
    made = engine.generate(ids, new)
    seconds = time.perf_counter() - start
    if len(made) != new:
        raise SystemExit(f"{engine.name} generated {len(made)} tokens instead of {new}.")
    return {"tokens/s": new / seconds}


def ask(engine_name: str, directory: str, new: int, env: dict[str, str]) -> dict[str, float]:
    """Start a program that answers a prompt and wait for its end: seconds, and peak memory."""
    command = [sys.executable, *COMMANDS[engine_name](directory, new)]
    start = time.perf_counter()
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        complaint = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone; getrusage mixes all children
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {process.returncode}:\n{complaint}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak bytes": float(usage.ru_maxrss * unit)}


def versions(engine_name: str) -> dict[str, str]:
    return {package: version(package) for package in ENGINES[engine_name].packages}


TASKS: dict[str, Task] = {"prefill": prefill, "decode": decode, "generate": generate}


def main() -> None:
    given = json.loads(sys.argv[1])
    make, task = ENGINES[given.pop("engine")], TASKS[given.pop("task")]
    engine = make(given.pop("directory"), given.pop("dtype"), given.pop("threads"))
    print(json.dumps(task(engine, **given)))


if __name__ == "__main__":
    main()
