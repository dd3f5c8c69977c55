"""The prompt of a command: its words, and the text on stdin, which are joined."""

import argparse
import os
import select
import stat
import sys

from tinystar_np.cli.streams import read_text
from tinystar_np.cli.terminal import note
from tinystar_np.errors import InputError

STDIN = "-"
PATIENCE = 2.0  # seconds after which a command says what it waits for


def read_prompt(words: list[str], arguments: argparse.Namespace) -> str:
    """Return the prompt: the words, then a blank line and the text on stdin, if there are both.

    words      the arguments; a dash before or after the others says where the text on stdin goes
    arguments  of the command

    Without a dash the text is read where stdin is a pipe or a file. Under mpiexec, which always makes it a
    pipe, it is read where there are no words. The line end that ``echo`` puts after it is removed. Raises
    InputError where either is not UTF-8.
    """
    first, last = words[:1] == [STDIN], words[1:] != [] and words[-1] == STDIN
    spoken = words[first : len(words) - last]
    said = " ".join(spoken)
    try:
        said.encode()
    except UnicodeEncodeError as error:  # bytes that Python could not decode
        raise InputError(f"The prompt is not UTF-8 (character {error.start}). Convert it first.") from error
    under_mpiexec = vars(arguments).get("ranks") is not None
    if spoken and not (first or last or (_has_text() and not under_mpiexec)):
        return said
    if spoken:
        _say_what_is_awaited(arguments)
    given = read_text(sys.stdin.buffer.read, "The prompt").rstrip("\n")
    return "\n\n".join(filter(None, [given, said] if first else [said, given]))


def _has_text() -> bool:
    """Say whether somebody has put a pipe or a file there, and not a terminal or /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # it is closed, or an object without a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _say_what_is_awaited(arguments: argparse.Namespace) -> None:
    """Print a note if a pipe stays silent: it may be one that nobody means, of a script or a scheduler."""
    if os.name == "posix" and _has_text() and not select.select([sys.stdin], [], [], PATIENCE)[0]:
        note("Waiting for the text on stdin, too; `< /dev/null` says that there is none.", arguments)
