"""Say what the commands do, or one of them."""

import argparse

from tinystar_np.cli.streams import OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from tinystar_np.cli.parsers import COMMANDS  # late: it imports this module

    parser.add_argument("topic", nargs="?", choices=sorted(COMMANDS), metavar="COMMAND", help="one of them")
    parser.set_defaults(command=show_help, parser=parser, verbose=False, color="auto", quiet=False)


def show_help(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from tinystar_np.cli.parsers import tinystar_parser

    words = [] if arguments.topic is None else [arguments.topic]
    tinystar_parser().parse_args([*words, "--help"])  # ends the process
    return OK
