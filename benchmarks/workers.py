"""The things measured, one function each. A measurement is a process of its own, started by run.py:

    python benchmarks/workers.py '{"engine": "tinystar_np", "task": "prefill", "tokens": 512, ...}'

prints one line of JSON, {"tokens/s": 812.3}. ``ask`` measures a whole program from outside, in run.py.
"""

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines import ENGINES

HERE = Path(__file__).parent
Task = Callable[..., dict[str, Any]]

LEAST_SECONDS, LEAST_PASSES = 1.0, 3
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
PROMPT = "The capital city of France is"

# What the installed ask-gpt2 does; written out so that it is this checkout that is measured.
ASK = "import sys; from tinystar_np.cli.main import ask_gpt2; sys.exit(ask_gpt2())"


def our_command(directory: str, dtype: str, new: int) -> list[str]:
    settings = ["--model", directory, "--dtype", dtype, "--max-tokens", str(new), "--temperature", "0"]
    return ["-c", ASK, *settings, PROMPT]


COMMANDS: dict[str, Callable[[str, str, int], list[str]]] = {
    "tinystar_np": our_command,
    "tinystar_np_in_memory": lambda *how: [*our_command(*how), "--in-memory"],
    "transformers": lambda directory, dtype, new: [
        *(str(HERE / "transformers_ask.py"), directory, dtype, str(new), PROMPT)
    ],
}


def some_rows(tokens: int, rows: int = 1) -> list[list[int]]:
    chosen = random.Random(0)
    return [chosen.choices(range(30_000), k=tokens) for _ in range(rows)]


def prefill(engine: Any, tokens: int) -> dict[str, float]:
    """Read a prompt, several times; its tokens by the median time."""
    rows = some_rows(tokens)
    engine.prefill(rows)
    seconds: list[float] = []
    while sum(seconds) < LEAST_SECONDS or len(seconds) < LEAST_PASSES:
        start = time.perf_counter()
        engine.prefill(rows)
        seconds.append(time.perf_counter() - start)
    return {"tokens/s": tokens / sorted(seconds)[len(seconds) // 2]}


def decode(engine: Any, prompt: int, new: int, rows: int = 1) -> dict[str, float]:
    """Generate, the model called once for the next token of every row; the prompts' time does not count."""
    for steps in (4, new):  # the first round warms up
        state, tokens = engine.prefill(some_rows(prompt, rows), room=steps)
        start = time.perf_counter()
        for _ in range(steps):
            tokens = engine.step(state, tokens)
        seconds = time.perf_counter() - start
    found = {"tokens/s": rows * new / seconds, "peak GB": peak()}
    return found | ({"GB/token": engine.read_per_token() / 1e9} if hasattr(engine, "read_per_token") else {})


def generate(engine: Any, prompt: int, new: int) -> dict[str, float]:
    """Generate with the library's own loop, sampler and stop rules included; the prompt's time counts."""
    (ids,) = some_rows(prompt)
    engine.generate(ids, 4)
    start = time.perf_counter()
    made = engine.generate(ids, new)
    seconds = time.perf_counter() - start
    if len(made) != new:
        raise SystemExit(f"{engine.name} generated {len(made)} tokens instead of {new}.")
    return {"tokens/s": new / seconds}


def read(engine: None) -> dict[str, float]:
    """Multiply a vector by large matrices: bytes read per second, whatever a model does."""
    from tinystar_np.inspection.speed import bandwidth, bare_matrices

    matrices = bare_matrices()
    bandwidth(matrices)  # warms up
    return {"GB/s": bandwidth(matrices) / 1e9}


def floor_of_tokens(engine: Any, prompt: int, new: int, rows: int) -> dict[str, list[float]]:
    """Decode, and multiply by the same matrices alone, in turn: ms of every token."""
    from floor import of_tokens  # late: it imports the package, which another engine's process shall not

    return of_tokens(engine, some_rows(prompt, rows), new)


def floor_of_prompt(engine: Any, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Read a prompt, and multiply by the same matrices alone, in turn: ms of every round."""
    from floor import of_prompt

    return of_prompt(engine, some_rows(tokens), rounds)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 1e9


def ask(engine_name: str, dtype: str, directory: str, new: int, env: dict[str, str]) -> dict[str, float]:
    """Start a program that answers a prompt and wait for its end: seconds, and peak memory."""
    command = [sys.executable, *COMMANDS[engine_name](directory, dtype, new)]
    start = time.perf_counter()
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        complaint = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone; getrusage mixes all children
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {process.returncode}:\n{complaint}")
    return {"seconds": seconds, "peak GB": usage.ru_maxrss * RSS_UNIT / 1e9}


def versions(engine_name: str) -> dict[str, str]:
    return {package: version(package) for package in ENGINES[engine_name].packages}


TASKS: dict[str, Task] = {
    "prefill": prefill,
    "decode": decode,
    "generate": generate,
    "read": read,
    "floor_of_tokens": floor_of_tokens,
    "floor_of_prompt": floor_of_prompt,
}


def main() -> None:
    given = json.loads(sys.argv[1])
    make, task = ENGINES[given.pop("engine")], TASKS[given.pop("task")]
    settings = given.pop("directory"), given.pop("dtype"), given.pop("threads")
    engine = None if task is read else make(*settings)
    print(json.dumps(task(engine, **given)))


if __name__ == "__main__":
    main()
