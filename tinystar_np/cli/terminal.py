"""What all commands share: common options, error messages, tables, colour."""

import argparse
import io
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal, NoReturn, TextIO

from tinystar_np.checkpoints.files_inside import links_followed
from tinystar_np.cli.streams import FAILURE, USAGE, Ended, say, tell
from tinystar_np.cli.visible import visible
from tinystar_np.errors import TinyStarError, words_of
from tinystar_np.loading import DTYPES

STYLES = {"bold": "1", "dim": "2", "red": "31"}
LONGEST_ERROR, LONGEST_TRACEBACK = 4_000, 20_000  # characters; libraries may quote a whole file
ANY_WIDTH = 10_000  # columns of a table in a pipe, where no line is broken

MODEL_HELP = "directory, GGUF file, hub id (owner/model:Q4_K_M of a GGUF repository) or shipped model"


class UsageError(TinyStarError):
    """The command line is invalid: exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, with an error in two lines instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print the error and how to get help, and exit."""
        self.exit(USAGE, in_lines(f"error: {visible(message)}\nHelp: {self.prog} --help\n"))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Raise argparse's error for what is none of an action's choices, with the nearest of them."""
        if action.choices is not None and value not in action.choices:
            from tinystar_np.cli.nearest import no_such  # late: only mistakes need it

            words = str(action.metavar or action.dest).lower()
            what = action.option_strings[-1] if action.option_strings else words
            raise argparse.ArgumentError(None, no_such(what.removesuffix("s"), value, list(action.choices)))

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or an error as commands do: argparse ignores errors of writing."""
        if file is sys.stdout:
            say(message, end="", raw=True)
        else:
            tell(message, end="")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("output")
    group.add_argument("-q", "--quiet", action="store_true", help="no notes on stderr, only errors")
    group.add_argument("-v", "--verbose", action="store_true", help="a traceback with an error")
    group.add_argument(
        "--color", choices=("auto", "on", "off"), default="auto", help="colour (default: on terminals)"
    )


def add_text_arguments(group: argparse._ActionsContainer) -> None:
    """Add the options of commands that print what a model has written."""
    group.add_argument(
        "--raw",
        action="store_true",
        help="let a terminal obey control characters in the text (default: it shows them, as ^[)",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say where a model comes from."""
    group = parser.add_argument_group("loading")
    group.add_argument("--revision", help="branch, tag or commit of the hub's repository")
    group.add_argument("--offline", action="store_true", help="do not touch the network")
    group.add_argument(
        "--follow-links",
        action="store_true",
        help="follow links in the model's directory that lead out of it, if you made them yourself",
    )
    add_cache_argument(group)
    return group


def add_cache_argument(group: argparse._ActionsContainer) -> None:
    """Add the option for the directory of downloads."""
    group.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="where downloads are (default: the hub's shared cache)"
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say where a model comes from and how its weights are kept."""
    group = add_source_arguments(parser)
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="element type of the weights")
    return group


def as_asked(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """Return the context in which a command runs: with --follow-links, one that follows links."""
    return links_followed() if vars(arguments).get("follow_links") else nullcontext()


@contextmanager
def errors_told(arguments: argparse.Namespace, ended: Ended) -> Iterator[None]:
    """Print an error raised inside the ``with`` block as one or two lines, and set the exit code.

    arguments  of the command, with its ``parser``
    """
    try:
        yield
    except (TinyStarError, MemoryError) as error:
        if arguments.verbose:
            tell(visible(traceback.format_exc()[-LONGEST_TRACEBACK:]), end="")
        words = words_of(error)
        if isinstance(error, UsageError):
            words += f"\nHelp: {arguments.parser.prog} --help"
        say_error(words, arguments)
        ended.code = USAGE if isinstance(error, UsageError) else FAILURE


def say_error(message: str, arguments: argparse.Namespace) -> None:
    """Print an error on stderr, cut and with control characters spelled out: it may quote untrusted files."""
    cut = message if len(message) <= LONGEST_ERROR else f"{message[:LONGEST_ERROR]}…"
    words = in_lines(f"error: {visible(cut)}").removeprefix("error:")
    tell(f"{styled('error:', 'red', sys.stderr, arguments)}{words}")


def note(message: str, arguments: argparse.Namespace) -> None:
    """Print a note on stderr, unless told to be quiet."""
    if not arguments.quiet:
        tell(styled(in_lines(visible(message)), "dim", sys.stderr, arguments))


@contextmanager
def warnings_noted(arguments: argparse.Namespace) -> Iterator[None]:
    """Print warnings of what runs inside the ``with`` block as notes, after it."""
    with warnings.catch_warnings(record=True) as warned:
        yield
    for warning in warned:
        note(str(warning.message), arguments)


def in_lines(words: str) -> str:
    """Break what goes to stderr between words, where that is a terminal and a line is wider than it."""
    columns = shutil.get_terminal_size().columns if sys.stderr is not None and sys.stderr.isatty() else 0
    if not columns or max(map(len, words.split("\n"))) <= columns:
        return words
    from tinystar_np.cli.wording import wrapped  # late: most commands print nothing so wide

    return "\n".join(wrapped(line, columns) if len(line) > columns else line for line in words.split("\n"))


def say_styled(text: str, style: str, arguments: argparse.Namespace) -> None:
    """Print to stdout in bold or in colour."""
    shown = visible(text) if sys.stdout.isatty() else text
    say(styled(shown, style, sys.stdout, arguments), raw=True)


def styled(text: str, style: str, stream: TextIO, arguments: argparse.Namespace) -> str:
    """Return a text in colour or bold, if colour is on.

    Control characters in it must have been spelled out before; those of the style are not.
    """
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if coloured(stream, arguments) else text


def coloured(stream: TextIO, arguments: argparse.Namespace) -> bool:
    """Say whether to colour: on a terminal without NO_COLOR and TERM=dumb, or as --color says."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return arguments.color == "on" or (arguments.color == "auto" and not plain)


KEPT_SPACE = "\ue000"
"""In a table's cell: a space at which no line ends."""


def columns_of(stream: TextIO) -> int:
    """Return how wide a stream is: a terminal's columns, and as many as are wanted in a pipe or file."""
    return shutil.get_terminal_size().columns if stream.isatty() else ANY_WIDTH


def say_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    arguments: argparse.Namespace,
    left: Sequence[int] = (0,),
    red: Sequence[int] = (),
    indent: int = 0,
    least: int = 0,
) -> None:
    """Print a table to stdout: cells are broken between words to fit a terminal; in a pipe a row is a line.

    head    of each column; a column without one has ""
    rows    one cell for each column
    left    columns aligned to the left; the others are aligned to the right, as numbers are
    red     rows to show in red
    indent  columns of space before the table
    least   width of every column but the first
    """
    # Imported late: most commands print no table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = columns_of(sys.stdout)
    table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="bold", show_header=any(head))
    shown = [[visible(cell) for cell in row] for row in (head, *rows)]
    for i, cells in enumerate(zip(*shown, strict=True)):
        side: Literal["left", "right"] = "left" if i in left else "right"
        word = max(len(word) for cell in cells for word in cell.split(" "))  # no word is broken
        table.add_column(Text(cells[0]), justify=side, min_width=max(word, least if i else 0))
    for i, row in enumerate(shown[1:]):
        table.add_row(*map(Text, row), style="red" if i in red else None)
    colours = coloured(sys.stdout, arguments)
    drawn = io.StringIO()
    console = Console(
        file=drawn,
        width=max(columns - indent, 1),
        force_terminal=colours,
        color_system="standard" if colours else None,
        legacy_windows=False,
        _environ={},  # colours and width are decided above
    )
    console.print(table, crop=False)
    lines = drawn.getvalue().replace(KEPT_SPACE, " ").splitlines()
    say("\n".join((" " * indent + line).rstrip() for line in lines), raw=True)


@contextmanager
def progress_line(arguments: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line in place of the one before, on a terminal.

    It does nothing where stderr is no terminal, or one that cannot rewrite a line, or with --quiet. The line
    is erased at the end, and by "".
    """
    watched = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not arguments.quiet
    shown = ""

    def show(words: str) -> None:
        nonlocal shown
        if watched and (words or shown):
            tell(f"\r{words}\x1b[K", end="")
            shown = words

    try:
        yield show
    finally:
        show("")
