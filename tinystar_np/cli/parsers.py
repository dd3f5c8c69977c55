"""The argument parsers of the two commands."""

import argparse
from importlib import import_module
from typing import Any

from tinystar_np import __version__
from tinystar_np.cli.terminal import Parser

COMMANDS = {  # each is the module of that name: its line in the list of commands
    "ask": "continue a text",
    "chat": "talk with a chat model",
    "look": "look inside a model while it writes, in the terminal or on a page",
    "inspect": "describe a model, its size and its memory",
    "models": "list the models on this disk and the architectures that run",
    "convert": "write a model once more, as int8, bfloat16 or float32",
    "compare": "show where a model differs from transformers, activation by activation",
    "experiments": "compare configurations of TinyStar: size, memory, cost and speed",
    "bench": "measure how fast a model runs here, alone or beside transformers",
}


def ask_gpt2_parser() -> Parser:
    """Make the parser of ``ask-gpt2``."""
    parser = Parser(prog="ask-gpt2")
    _add_version(parser)
    _declare("ask", parser, default_model="openai-community/gpt2")
    parser.description = "Continue a text with GPT-2, which is downloaded the first time (0.5 GB)."
    return parser


def tinystar_parser() -> Parser:
    """Make the parser of ``tinystar``."""
    parser = Parser(
        prog="tinystar",
        description="Hugging Face language models in pure NumPy: run them, look inside, check them.",
    )
    _add_version(parser)
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    for name, words in COMMANDS.items():
        commands.add_parser(name, help=words).name = name
    return parser


class CommandParser(Parser):
    """The parser of one command, which declares its options when it is chosen.

    Until then its module is not imported, so that no command waits for another's imports.
    """

    name: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments after the command's name."""
        if self.name is not None:
            name, self.name = self.name, None
            _declare(name, self)
        return super().parse_known_args(args, namespace)


def _declare(name: str, parser: Parser, **how: str) -> None:
    """Let a command's module declare its options and its description."""
    module = import_module(f"tinystar_np.cli.{name}")
    module.add_arguments(parser, **how)
    parser.description = module.__doc__
    epilog: str | None = getattr(module, "EPILOG", None)
    if epilog:
        parser.epilog = epilog.format(command=parser.prog)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"tinystar_np {__version__}")


PARSERS = {"ask-gpt2": ask_gpt2_parser, "tinystar": tinystar_parser}
