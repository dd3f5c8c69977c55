"""The other side of worker.py: the process that limits itself, and then answers requests.

The limits are the operating system's. macOS does not keep the first, Windows has none of them.

    RLIMIT_AS       memory
    ITIMER_REAL     time, in case the process that would stop this one has ended before it
    RLIMIT_FSIZE    no file is written
    RLIMIT_NOFILE   no file and no connection is opened, once ``prepare`` has returned
    RLIMIT_NPROC    no other process is started
    RLIMIT_CORE     a crash leaves nothing behind

It runs as a file and not as a module of the package, whose imports would take longer than the work.
"""

import json
import marshal
import os
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

OUT_OF_MEMORY = 77  # the exit code


def main() -> None:
    """Read what to do from stdin, and answer requests until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not stand among the answers

    def answer(function: Callable[[Any], Any], request: object, seconds: float) -> None:
        _alarm(seconds + 1)  # a little later than the other process would
        data = json.dumps(function(request), ensure_ascii=False).encode("utf-8", "surrogatepass")
        answers.write(struct.pack("<Q", len(data)) + data)
        _alarm(0)
        answers.flush()

    paths, script, memory, seconds, first = _receive()
    sys.path += paths
    spec = spec_from_file_location("script", script)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    _limit(RLIMIT_AS=memory, RLIMIT_CORE=0, RLIMIT_FSIZE=0)
    answer(getattr(module, "prepare", lambda first: first), first, seconds)
    _limit(RLIMIT_NOFILE=0, RLIMIT_NPROC=0)
    while True:
        seconds, request = _receive()
        answer(module.answer, request, seconds)


def _receive() -> Any:
    size = sys.stdin.buffer.read(8)
    if len(size) < 8:
        os._exit(0)
    return marshal.loads(sys.stdin.buffer.read(struct.unpack("<Q", size)[0]))


def _limit(**limits: int) -> None:
    """Set limits, for good."""
    with suppress(ImportError):
        import resource

        for name, most in limits.items():
            with suppress(AttributeError, OSError, ValueError):  # a system without it; one that is lower
                resource.setrlimit(getattr(resource, name), (most, most))


def _alarm(seconds: float) -> None:
    """Let the system end this process after so many seconds; 0 cancels that."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    try:
        main()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
