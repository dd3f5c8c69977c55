"""The streams as people leave them: closed, full, cut off by `head`, in another encoding. And Ctrl-C."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TextIO

from tinystar_np.cli.visible import visible
from tinystar_np.errors import InputError, TinyStarError

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130

MOST_INPUT = 1 << 26
"""Bytes of a prompt on stdin, 67 MB: what comes without an end (`yes |`) must not fill the memory."""


class OutputError(TinyStarError):
    """What was found cannot be written to stdout."""


@dataclass
class Ended:
    """How a command ended: its exit code."""

    code: int = OK


@contextmanager
def guarded(alone: bool) -> Iterator[Ended]:
    """Let Ctrl-C and closed streams end a command quietly, inside the ``with`` block.

    alone  whether the process ends with it

    Gives the exit code's place.
    """
    global _pressed
    _pressed = -math.inf
    ended = Ended()
    if alone and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as after &
        signal.signal(signal.SIGINT, _press)
    try:
        _prepare()
        try:
            yield ended
        except SystemExit:  # the parser has printed its help
            _flush()
            raise
        _flush()
    except KeyboardInterrupt:
        _end_line()
        ended.code = INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        _discard(sys.stdout)
        ended.code = OK
    except OutputError as error:  # of the last flush
        tell(f"error: {error}")
        ended.code = FAILURE
    except Exception:
        if time.monotonic() - _pressed > 1:
            raise
        _end_line()  # extension modules make an ImportError of Ctrl-C
        ended.code = INTERRUPTED
    finally:
        if signal.getsignal(signal.SIGINT) is _press:
            # Nothing is left to be saved, and Python would show a traceback of its own shutting down.
            signal.signal(signal.SIGINT, signal.SIG_DFL)


_pressed = -math.inf  # when Ctrl-C was


def _press(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = time.monotonic()
    signal.default_int_handler(number, frame)


def say(text: str = "", end: str = "\n", raw: bool = False) -> None:
    """Print to stdout: on a terminal visibly, unless raw, and into a pipe or file as it is.

    Raises BrokenPipeError where nobody reads any more, OutputError where there is no room.
    """
    with _output_errors():
        print(text if raw or not sys.stdout.isatty() else visible(text), end=end, flush=True)


def tell(text: str = "", end: str = "\n") -> None:
    """Print to stderr. Where it cannot be written to, nobody hears it, and nothing else changes."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def read_text(source: Callable[[int], bytes], what: str) -> str:
    """Read UTF-8 from stdin; \\r\\n becomes \\n, as everywhere in Python, and a byte order mark is dropped.

    source  reads at most so many bytes: ``sys.stdin.buffer.read``, or its ``readline``
    what    is read, for messages: "The prompt"

    Raises InputError where it is not UTF-8, too long, or cannot be read.
    """
    try:
        data = source(MOST_INPUT + 1)
    except OSError as error:
        raise InputError(f"{what} on stdin cannot be read ({error.strerror}).") from error
    if len(data) > MOST_INPUT:
        raise InputError(f"{what} on stdin has more than {MOST_INPUT / 1e6:.0f} MB. Shorten it.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{what} on stdin is not UTF-8 (byte {error.start}). Convert it first.") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _prepare() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # whoever started this process has closed it
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what is not UTF-8 shows ?, and no traceback


def _flush() -> None:
    with _output_errors():
        sys.stdout.flush()


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard(sys.stdout)
        raise OutputError(f"stdout cannot be written ({error.strerror}).") from error


def _end_line() -> None:
    """After Ctrl-C: what was printed stays, and the shell's prompt goes on a line of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
    for stream in (sys.stderr, sys.stdout):
        if stream.isatty():
            with suppress(OSError):
                print(file=stream, flush=True)
            return


def _discard(stream: TextIO) -> None:
    """Let go of what could not be written: Python would try once more at exit, and complain."""
    with suppress(OSError, ValueError):  # a stream of a test has no number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
