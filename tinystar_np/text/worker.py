"""A worker: a process of its own for untrusted work, with a deadline and a limit of memory.

A chat template is a program, and a tokenizer's file can keep the library that reads it busy for hours. What
runs in this process cannot be stopped, and a crash ends everything; a worker can be killed, and its crash is
an error like any other. It has an empty environment, cannot open files or connections while it works
(worker_process.py), and plain data goes both ways: marshal to it, JSON from it, as it is not trusted.
"""

import json
import marshal
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Any, TypeAlias

from tinystar_np.text.worker_process import OUT_OF_MEMORY

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | dict[str, Json] | None"

PROCESS = Path(__file__).with_name("worker_process.py")
START = 30.0  # seconds that it may take to start; usually it takes less than 0.1
MOST_PREPARED = 1 << 28  # bytes that ``prepare`` may return
KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")  # of the environment
SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class WorkerError(Exception):
    """The work was stopped, or ended its process: the message says why and begins with "it"."""


class Worker:
    """A process that answers requests one by one; it starts at the first, and anew after it was killed.

    script    the file to run, with a function ``answer(request)`` that returns JSON, and perhaps
              ``prepare(first)``, which may still open files
    packages  what the script imports beside the standard library
    memory    the most bytes that the process may have
    first     what ``prepare`` is given at each start; plain data
    seconds   the deadline of ``prepare``
    """

    def __init__(
        self, script: Path, packages: Sequence[str], memory: int, first: Any = None, seconds: float = START
    ) -> None:
        self._script, self._packages, self._memory = script, packages, memory
        self._first, self._seconds = first, seconds
        self._forget()

    def ask(self, request: Any, seconds: float, most: int) -> Any:
        """Return the answer to a request; one thread is served after the other.

        request  plain data
        seconds  the deadline
        most     the most bytes of the answer

        Raises WorkerError where the work was stopped or ended the process; ValueError for a request that is
        nested too deeply.
        """
        data = marshal.dumps((seconds, request))
        with self._running():
            return self._exchange(data, seconds, most)

    def start(self) -> Any:
        """Start the process unless it runs already, and return what ``prepare`` did."""
        with self._running():
            return self._prepared

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Have the process running, for one thread alone."""
        if self._owner != os.getpid():  # after a fork: the process is the parent's
            self._forget()
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            yield

    def _forget(self) -> None:
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._process: subprocess.Popen[bytes] | None = None  # while it is not answering
        self._kill: Callable[[], object] = lambda: None
        self._prepared: Any = None

    def _start(self) -> None:
        self._kill()  # what is left of it
        paths = list(dict.fromkeys(place for name in self._packages if (place := place_of(name))))
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-Wignore", str(PROCESS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd=PROCESS.parent,
                env={name: os.environ[name] for name in KEPT if name in os.environ} | SETTINGS,
                process_group=None if os.name == "nt" else 0,  # Ctrl-C is for this process alone
            )
        except (OSError, TypeError) as error:  # no such file; or embedded, so that nobody knows Python's
            raise WorkerError(f"it needs a process of its own, and none starts ({error})") from error
        if os.name != "nt" and process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        self._process, self._kill = process, weakref.finalize(self, _end, process, os.getpid())
        setup = (paths, str(self._script), self._memory, self._seconds, self._first)
        self._prepared = self._exchange(marshal.dumps(setup), START + self._seconds, MOST_PREPARED)

    def _exchange(self, data: bytes, seconds: float, most: int) -> Any:
        """Send bytes to the process and read its answer; if anything goes wrong it is killed.

        Ctrl-C may come at any place. Then the process is forgotten first, whatever becomes of it: what it
        still says is no answer to the next request.
        """
        process, self._process = self._process, None
        assert process is not None
        until = time.monotonic() + seconds
        try:
            with _deadline(process, seconds):
                _send(process, struct.pack("<Q", len(data)) + data, until)
                (size,) = struct.unpack("<Q", _receive(process, 8, until))
                if size > most:
                    raise WorkerError(f"its result has {size} bytes, and no more than {most} are taken")
                answer = json.loads(_receive(process, size, until))
            self._process = process
        except (OSError, EOFError, ValueError, RecursionError) as error:
            late = isinstance(error, TimeoutError)
            if not late:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)  # one that ends by itself has a code that says why
            self._kill()
            raise WorkerError(self._how_it_ended(process.returncode, late)) from error
        finally:
            if self._process is None:
                self._kill()
        return answer

    def _how_it_ended(self, code: int | None, late: bool) -> str:
        """Say why a process gave no answer."""
        if late or code is None or code == -getattr(signal, "SIGALRM", 0) < 0:
            return "it took too long, and was stopped"
        if code == OUT_OF_MEMORY:
            return f"it needed more than {self._memory / 1e9:g} GB of memory, and was stopped"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"it ended the process in which it ran ({name})"


def _send(process: "subprocess.Popen[bytes]", data: bytes, until: float) -> None:
    """Write to a process; raises TimeoutError once the monotonic clock shows ``until``."""
    assert process.stdin is not None
    rest = memoryview(data)
    while rest:
        _wait(process.stdin, "out", until)
        rest = rest[process.stdin.write(rest) or 0 :]


def _receive(process: "subprocess.Popen[bytes]", size: int, until: float) -> bytes:
    """Read so many bytes from a process; raises TimeoutError as above, EOFError where they do not come."""
    assert process.stdout is not None
    data = bytearray()
    while len(data) < size:
        _wait(process.stdout, "in", until)
        part = process.stdout.read(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _wait(pipe: IO[bytes], way: str, until: float) -> None:
    """Wait until a pipe can be read from or written to; raises TimeoutError as above."""
    if os.name == "nt":
        return
    poll = select.poll()
    poll.register(pipe, select.POLLIN if way == "in" else select.POLLOUT)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError


@contextmanager
def _deadline(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    """On Windows, where nobody can wait for a pipe: let a thread kill the process after so many seconds."""
    if os.name != "nt":
        yield
        return
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def place_of(package: str) -> str | None:
    """Return the directory that a package is imported from, None where there is none.

    The working directory does not count, though Python may search it first: it may be a model's.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it was deleted
        here = ""
    places = [place for place in sys.path if os.path.isabs(place) and os.path.realpath(place) != here]
    spec = PathFinder.find_spec(package, [str(PROCESS.parents[2]), *places])  # where this package is itself
    return os.path.dirname(os.path.dirname(spec.origin)) if spec and spec.origin else None


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """End a process, unless this one is a fork of its owner."""
    if os.getpid() == owner:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # Ctrl-C in subprocess can leave its lock taken for ever
            process.wait(1)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not yet sent
                    pipe.close()
