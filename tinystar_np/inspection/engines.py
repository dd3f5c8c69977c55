"""Engines that run a model to be measured: this package, and others in processes of their own.

Each does the same work on the same ids: greedy decoding with a cache, and logits of the last token only.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.errors import TinyStarError
from tinystar_np.inspection.memory import peak_memory
from tinystar_np.models.base import Decoder

MOST_SAID = 500  # characters of what an engine says when it fails: transformers lists all it knows
TO_END = 10  # seconds that an engine has which another program has started
PROGRAM = Path(__file__).with_name("engine_process.py")


class Engine(Protocol):
    """An engine that runs a model."""

    name: str

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then call the model ``new`` times for the next token: seconds of both."""

    def peak(self) -> int:
        """Return its process's peak memory in bytes, mapped weights included."""


class TinyStarEngine:
    """This package as an engine."""

    name = "tinystar_np"

    def __init__(self, model: Decoder) -> None:
        self.model = model

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then call the model ``new`` times for the next token: seconds of both."""
        start = time.perf_counter()
        cache = self.model.new_cache(len(ids), capacity=len(ids[0]) + new)
        tokens = self.model(ids, cache=cache, last_only=True)[:, -1].argmax(axis=-1)
        read = time.perf_counter()
        for _ in range(new):
            tokens = self.model(tokens[:, None], cache=cache, last_only=True)[:, -1].argmax(axis=-1)
        return read - start, time.perf_counter() - read

    def peak(self) -> int:
        """Return this process's peak memory in bytes, mapped weights included."""
        return peak_memory()


class EngineProcess:
    """An engine in a process of its own, so that its memory and threads are measured separately.

    To be used in a ``with``, which ends the process. It runs engine_process.py, and idles between calls.

    directory    config.json and weights
    name         of the engine
    engine       its class: "transformers", or "module:Class"
    environment  of the process; None for ours
    started_by   a command that starts it, with its arguments: mpiexec

    Raises TinyStarError where torch or transformers is missing.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "transformers",
        engine: str = "transformers",
        environment: Mapping[str, str] | None = None,
        started_by: Sequence[str] = (),
    ) -> None:
        for package in ("torch", "transformers") if engine == "transformers" else ():
            if find_spec(package) is None:
                raise TinyStarError(
                    f"Measuring beside transformers needs {package}, which is not installed.\n"
                    "Install it: pip install 'tinystar_np[bench]'"
                )
        self.name = name
        self._directory, self._is_started_by = directory, bool(started_by)
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115, closed in __exit__
        # -P: files of this directory must not be top-level modules of that process.
        command = [*started_by, sys.executable, "-P", str(PROGRAM), engine, str(directory)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_started_by:  # what has started it must not be killed before it, or it would be left
            assert self._process.stdin is not None
            with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                self._process.stdin.close()
                self._process.wait(TO_END)
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(TO_END)
        self._process.kill()
        with suppress(BrokenPipeError), self._process:  # closes the pipes and waits
            pass
        self._complaints.close()

    def load(self, dtype: str, threads: int) -> dict[str, str]:
        """Load the model in "float32" or "bfloat16" for so many threads; returns the packages' versions.

        Raises TinyStarError where the engine cannot.
        """
        return self.ask("load", dtype=dtype, threads=threads)

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then call the model ``new`` times for the next token: seconds of both."""
        reading, writing = self.ask("turn", ids=ids, new=new)
        return reading, writing

    def peak(self) -> int:
        """Return its process's peak memory in bytes, mapped weights included."""
        return self.ask("peak")

    def ask(self, method: str, **arguments: object) -> Any:
        """Call a method of the engine: send one line of JSON and read one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._process.wait()
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace").strip().splitlines()
            ended = f"its process ended with exit code {self._process.returncode}"
            why = one_line(said[-1], MOST_SAID) if said else ended
            raise TinyStarError(f"{self._directory}: {self.name} cannot run this model: {why}")
        return json.loads(line)
