'''Reading messages: lines that are typed at a terminal, or that come from a pipe.

    a line                  one message
    a bracketed paste       one message, however many lines it has
    """ … """               everything between is one message
    a line that ends in \\   goes on with the next

Editing and its keys are the `readline` module's. It is Python's own, and GNU readline marks what is pasted,
so that its lines arrive together. Where Python has libedit instead (macOS), lines that are there at once
were pasted.
'''

import os
import select
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, Protocol

from tinystar_np.cli.chat_history import History
from tinystar_np.cli.streams import MOST_INPUT, read_text, say, tell
from tinystar_np.errors import InputError

PROMPT, MORE = "> ", "... "
QUOTES = '"""'
QUOTED_COMMAND = f"/system {QUOTES}"
AT_ONCE = 0.02  # seconds within which the next line of a paste is there; nobody types a line so quickly


class DiscardedError(Exception):
    """The lines typed so far are not wanted."""


class Lines(Protocol):
    """Where lines come from."""

    def line(self, prompt: str) -> str | None:
        """Return the next line without its end; None after the last."""


class PipedLines:
    """The lines of stdin."""

    def line(self, prompt: str) -> str | None:
        """Return the next line without its end; None after the last."""
        text = read_text(sys.stdin.buffer.readline, "A line")
        return text.removesuffix("\n") if text else None


class TypedLines:
    """What a person types at a terminal.

    history   of what was typed
    complete  the possible ends of a line, for the Tab key
    """

    def __init__(self, history: History, complete: Callable[[str], list[str]]) -> None:
        self._readline = _readline() if sys.stdout.isatty() else None  # else stdout is for answers alone
        self._marks_pastes = False
        readline = self._readline
        if readline is None:
            return
        libedit = "libedit" in (readline.__doc__ or "")
        self._marks_pastes = not libedit
        readline.set_auto_history(False)
        readline.set_completer_delims(" \n")
        readline.set_completer(lambda text, state: [*complete(readline.get_line_buffer()), None][state])
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        if not libedit:
            readline.parse_and_bind("set enable-bracketed-paste on")
        for entry in history.entries:
            readline.add_history(entry)

    def line(self, prompt: str) -> str | None:
        """Ask for the next line, or paste; None after Ctrl-D.

        Ctrl-C discards what was typed, with DiscardedError where it had more lines; on an empty line it is
        passed on.
        """
        typed_ahead = not self._marks_pastes and _is_waiting()
        lines: list[str] = []
        try:
            while True:
                lines.append(self._asked(prompt if not lines else ""))
                if self._marks_pastes or typed_ahead or not _is_waiting():
                    return "\n".join(lines)
        except EOFError:
            if lines:
                return "\n".join(lines)
            tell()
            return None
        except UnicodeDecodeError as error:
            raise InputError("What was typed is not in the terminal's encoding.") from error

    def _asked(self, prompt: str) -> str:
        if not sys.stdout.isatty():
            tell(prompt, end="")
            return input()
        while True:
            try:
                return input(prompt)
            except KeyboardInterrupt:
                say()
                if prompt == MORE:
                    raise DiscardedError from None
                if self._readline is None or not self._readline.get_line_buffer():
                    raise

    def remember(self, entry: str) -> None:
        """Give the arrow keys a message."""
        if self._readline is not None:
            self._readline.add_history(entry)


def _readline() -> ModuleType | None:
    """Return the module that edits lines; None where Python was built without it."""
    try:
        import readline  # late: only a person at a terminal needs it
    except ImportError:
        return None
    return readline


def _is_waiting() -> bool:
    """Say whether another line can be read at once."""
    return os.name == "posix" and bool(select.select([sys.stdin], [], [], AT_ONCE)[0])


class Entry(NamedTuple):
    """What was typed: a message, or a command, which begins with a slash."""

    text: str
    is_command: bool


def read_entry(lines: Lines) -> Entry | None:
    """Return the next message or command, without the marks of several lines; None after the last.

    Raises InputError for quotes that are never closed, or more text than is taken.
    """
    text = lines.line(PROMPT)
    if text is None:
        return None
    try:
        for opening in (QUOTES, QUOTED_COMMAND):
            if text.lstrip().startswith(opening):
                quoted = _quoted(text.lstrip().removeprefix(opening), lines)
                command = opening.removesuffix(QUOTES)
                return Entry(command + quoted, bool(command))
        parts = [text]
        while parts[-1].endswith("\\") and "\n" not in parts[-1]:
            more = lines.line(MORE)
            if more is None:
                break
            parts[-1:] = [parts[-1][:-1], more]
            _check_length(parts)
    except DiscardedError:
        return Entry("", False)
    text = "\n".join(parts)
    if "\n" in text:  # a text that happens to begin with a slash is no command
        return Entry(text.strip("\n"), False)
    text = text.strip()
    return Entry(text[1:], False) if text.startswith("//") else Entry(text, text.startswith("/"))


def _quoted(text: str, lines: Lines) -> str:
    """Read up to the closing quotes, and return what is between."""
    parts = [text]
    while not parts[-1].rstrip().endswith(QUOTES):
        more = lines.line(MORE)
        if more is None:
            raise InputError(f"The text that begins with {QUOTES} never ends. Close it with {QUOTES}.")
        parts.append(more)
        _check_length(parts)
    return "\n".join(parts).rstrip().removesuffix(QUOTES).strip("\n")


def _check_length(parts: list[str]) -> None:
    if sum(map(len, parts)) > MOST_INPUT:
        raise InputError(f"A message has more than {MOST_INPUT / 1e6:.0f} million characters. Shorten it.")
