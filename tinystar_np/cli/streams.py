"""Standard streams that may be closed, full, cut off by `head` or in another encoding; and Ctrl-C."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from tinystar_np.cli.visible import visible
from tinystar_np.errors import InputError, TinyStarError

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130

MOST_INPUT = 1 << 26
"""The most bytes of a prompt on stdin, 67 MB: an endless one (`yes |`) must not fill the memory."""


class OutputError(TinyStarError):
    """The output cannot be written to stdout."""


@dataclass
class Ended:
    """How a command ended: its exit code."""

    code: int = OK


@contextmanager
def guarded(alone: bool) -> Iterator[Ended]:
    """Let Ctrl-C and closed streams end a command quietly, inside the ``with`` block.

    alone  whether the process ends with it

    Gives an object for the exit code.
    """
    global _pressed
    _pressed = -math.inf
    ended = Ended()
    try:
        if alone and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by main.py; not where ignored
            signal.signal(signal.SIGINT, _press)
        _prepare()
        try:
            yield ended
        except SystemExit:  # the parser has printed its help
            _flush()
            raise
        _flush()
    except KeyboardInterrupt:
        _listen_no_more()
        _end_line()
        ended.code = INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe
        _discard(sys.stdout)
        ended.code = OK
    except OutputError as error:  # of the last flush
        tell(f"error: {error}")
        ended.code = FAILURE
    except Exception:
        if time.monotonic() - _pressed > 1:
            raise
        _listen_no_more()
        _end_line()  # extension modules raise an ImportError for Ctrl-C
        ended.code = INTERRUPTED
    finally:
        _listen_no_more()


_pressed = -math.inf  # when Ctrl-C was


def _press(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = time.monotonic()
    signal.default_int_handler(number, frame)


def _listen_no_more() -> None:
    """Let Ctrl-C end the process at once: nothing is left to be saved, and Python would print a traceback."""
    if signal.getsignal(signal.SIGINT) is _press:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def say(text: str = "", end: str = "\n", raw: bool = False) -> None:
    """Print to stdout: on a terminal with control characters spelled out unless raw, else as it is.

    Raises BrokenPipeError where the reader has closed the pipe, OutputError where writing fails.
    """
    with _output_errors():
        print(text if raw or not sys.stdout.isatty() else visible(text), end=end, flush=True)


def tell(text: str = "", end: str = "\n") -> None:
    """Print to stderr; if that fails, the text is lost and the command goes on."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def read_text(source: Callable[[int], bytes], what: str, on: str = " on stdin") -> str:
    """Read UTF-8 from stdin, or a file; \\r\\n becomes \\n, as in all of Python, without a byte order mark.

    source  reads at most so many bytes: ``sys.stdin.buffer.read``, or its ``readline``
    what    is read, for messages: "The prompt"
    on      where, for messages

    Raises InputError where it is not UTF-8, too long, or cannot be read.
    """
    try:
        data = source(MOST_INPUT + 1)
    except OSError as error:
        raise InputError(f"{what}{on} cannot be read ({error.strerror}).") from error
    if len(data) > MOST_INPUT:
        raise InputError(f"{what}{on} has more than {MOST_INPUT / 1e6:.0f} MB. Shorten it.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{what}{on} is not UTF-8 (byte {error.start}). Convert it first.") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def file_text(path: Path) -> str:
    """Return a file's text; raises InputError where it is missing, too long or not UTF-8."""
    if not path.is_file():  # a pipe or a device may never end
        what = "this is no file with a text" if path.exists() else "there is no such file"
        raise InputError(f"{path}: {what}.")
    try:
        with path.open("rb") as file:
            return read_text(file.read, str(path), on="")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _prepare() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the process that started this one
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # characters outside the encoding become ?, not a traceback


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
    """End the line after Ctrl-C, so that the shell's prompt is on a line of its own."""
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
    """Discard what could not be written: Python would try again at exit, and print an error."""
    with suppress(OSError, ValueError):  # a stream of a test has no file descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
