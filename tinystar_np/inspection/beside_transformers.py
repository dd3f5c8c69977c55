"""transformers as the other engine, in a process of its own: memory and threads are not mixed with ours.

The process is started before our model is loaded, and idles while we measure; ``transformers_process.py`` is
what it runs.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from tinystar_np.errors import TinyStarError

PROGRAM = Path(__file__).with_name("transformers_process.py")


class TransformersEngine:
    """The same model in transformers. To be used in a ``with``, which ends the process.

    directory  config.json and weights

    Raises TinyStarError where torch or transformers is missing.
    """

    name = "transformers"

    def __init__(self, directory: Path) -> None:
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise TinyStarError(
                    f"Measuring beside transformers needs {package}, which is not installed.\n"
                    "Install it: pip install 'tinystar_np[bench]'"
                )
        self._directory = directory
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115, closed in __exit__
        # -P: this directory's files are no top-level modules of that process.
        command = [sys.executable, "-P", str(PROGRAM), str(directory)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError), self._process:  # closes the pipes and waits
            pass
        self._complaints.close()

    def load(self, dtype: str, threads: int) -> dict[str, str]:
        """Load the model in "float32" or "bfloat16" for so many threads; returns the packages' versions.

        Raises TinyStarError where transformers cannot.
        """
        return self._answer({"dtype": dtype, "threads": threads})

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then call the model ``new`` times for the next token: seconds of both."""
        reading, writing = self._answer({"ids": ids, "new": new})
        return reading, writing

    def peak(self) -> int:
        """Return the most bytes its process has had in memory."""
        return self._answer({})

    def _answer(self, question: dict[str, Any]) -> Any:
        """Send one line and read one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._process.wait()
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"its process ended with exit code {self._process.returncode}"
            raise TinyStarError(f"{self._directory}: transformers cannot run this model: {why}")
        return json.loads(line)
