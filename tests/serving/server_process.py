"""A server in a process of its own, as a person starts it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

PATIENCE = 60.0  # seconds


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[str]:
    """Start `tinystar serve` on a free port, give its address, and stop it."""
    command = [sys.executable, "-m", "tinystar_np", "serve", *arguments, "--port", "0", "--grace", "1"]
    variables = {**os.environ, "NO_COLOR": "1", **environment}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=variables, stdin=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        yield _address(process.stderr)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


def _address(stderr: IO[str]) -> str:
    """Read what a server says until it says where it listens."""
    said = []
    for line in stderr:
        said.append(line)
        found = re.search(r"http://[\d.]+:\d+", line)
        if found is not None:
            return found[0]
    raise AssertionError(f"The server did not start: {''.join(said)}")
