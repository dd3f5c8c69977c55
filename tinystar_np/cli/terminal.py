"""What every command shares: options, errors in plain lines, colour."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tinystar_np.cli.streams import FAILURE, USAGE, say, tell
from tinystar_np.cli.visible import visible
from tinystar_np.errors import TinyStarError
from tinystar_np.loading import DTYPES

STYLES = {"bold": "1", "dim": "2", "red": "31"}


class UsageError(TinyStarError):
    """The command line itself is at fault: exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, with an error in two lines instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and exit."""
        self.exit(USAGE, f"error: {visible(message)}\nHelp: {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or an error as commands do: argparse is silent where there is no room for it."""
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
    add_cache_argument(group)
    return group


def add_cache_argument(group: argparse._ActionsContainer) -> None:
    """Add the option that says where downloads lie."""
    group.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="where downloads lie (default: the hub's shared cache)"
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say where a model comes from and how its weights are kept."""
    group = add_source_arguments(parser)
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="element type of the weights")
    return group


def run(parser: Parser, given: Sequence[str] | None) -> int:
    """Run the chosen command and turn what goes wrong into one or two plain lines and an exit code.

    parser  of which the chosen command's part sets ``command``, the function to run, and ``parser``, itself
    given   the arguments; None for the process's own
    """
    arguments = parser.parse_args(given)
    try:
        return arguments.command(arguments)
    except (TinyStarError, MemoryError) as error:
        if arguments.verbose:
            tell(visible(traceback.format_exc()), end="")
        if isinstance(error, MemoryError):
            say_error(f"There is not enough memory. {error}".rstrip(), arguments)
            return FAILURE
        if isinstance(error, UsageError):
            say_error(f"{error}\nHelp: {arguments.parser.prog} --help", arguments)
            return USAGE
        say_error(str(error), arguments)
        return FAILURE


def say_error(message: str, arguments: argparse.Namespace) -> None:
    """Print an error on stderr, always visibly: it quotes what is in a stranger's files."""
    tell(f"{styled('error:', 'red', sys.stderr, arguments)} {visible(message)}")


def note(message: str, arguments: argparse.Namespace) -> None:
    """Print a note on stderr, unless told to be quiet."""
    if not arguments.quiet:
        tell(styled(visible(message), "dim", sys.stderr, arguments))


def say_styled(text: str, style: str, arguments: argparse.Namespace) -> None:
    """Print to stdout in bold or in colour."""
    shown = visible(text) if sys.stdout.isatty() else text
    say(styled(shown, style, sys.stdout, arguments), raw=True)


def styled(text: str, style: str, stream: TextIO, arguments: argparse.Namespace) -> str:
    """Colour a text for a terminal without NO_COLOR and TERM=dumb, or where --color is on.

    It must be made visible before: of what comes back a terminal is to obey the orders.
    """
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not stream.isatty()
    if arguments.color == "off" or (arguments.color == "auto" and plain):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"
