"""What every command shares: exit codes, errors in plain lines, colour, a closed pipe, Ctrl-C."""

import argparse
import os
import sys
import traceback
from typing import NoReturn, TextIO

from tinystar_np.errors import TinyStarError
from tinystar_np.loading import DTYPES

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130

STYLES = {"bold": "1", "dim": "2", "red": "31"}


class UsageError(TinyStarError):
    """The command line itself is at fault: exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, with an error in two lines instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and exit."""
        self.exit(USAGE, f"error: {message}\nHelp: {self.prog} --help\n")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("output")
    group.add_argument("-q", "--quiet", action="store_true", help="no notes on stderr, only errors")
    group.add_argument("-v", "--verbose", action="store_true", help="a traceback with an error")
    group.add_argument(
        "--color", choices=("auto", "on", "off"), default="auto", help="colour (default: on terminals)"
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say where a model comes from."""
    group = parser.add_argument_group("loading")
    group.add_argument("--revision", help="branch, tag or commit of the hub's repository")
    group.add_argument("--offline", action="store_true", help="do not touch the network")
    group.add_argument(
        "--cache-dir", metavar="DIR", help="where downloads lie (default: the hub's shared cache)"
    )
    return group


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a model comes from and how its weights are kept."""
    group = add_source_arguments(parser)
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="element type of the weights")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen command and turn what goes wrong into one or two plain lines and an exit code.

    arguments  parsed; ``command`` is the function to run, ``parser`` the parser that set it
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ?, and no traceback
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except UsageError as error:
        if arguments.verbose:
            traceback.print_exc()
        say_error(f"{error}\nHelp: {arguments.parser.prog} --help", arguments)
        return USAGE
    except TinyStarError as error:
        if arguments.verbose:
            traceback.print_exc()
        say_error(str(error), arguments)
        return FAILURE
    except KeyboardInterrupt:
        # What was printed stays; the shell's prompt goes on a line of its own.
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough. Python flushes stdout once more at exit: not into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def say_error(message: str, arguments: argparse.Namespace) -> None:
    """Print an error on stderr."""
    print(f"{styled('error:', 'red', sys.stderr, arguments)} {message}", file=sys.stderr)


def note(message: str, arguments: argparse.Namespace) -> None:
    """Print a note on stderr, unless told to be quiet."""
    if not arguments.quiet:
        print(styled(message, "dim", sys.stderr, arguments), file=sys.stderr)


def styled(text: str, style: str, stream: TextIO, arguments: argparse.Namespace) -> str:
    """Colour a text for a terminal without NO_COLOR and TERM=dumb, or where --color is on."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not stream.isatty()
    if arguments.color == "off" or (arguments.color == "auto" and plain):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"
