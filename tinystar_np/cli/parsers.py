"""The argument parsers of the two commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tinystar_np import __version__
from tinystar_np.cli.terminal import Parser
from tinystar_np.documents import document

COMMANDS = {  # each is the module of that name: its line in the list of commands
    "ask": "continue a text",
    "chat": "talk with a chat model",
    "serve": "serve models over HTTP: OpenAI's interface, and a page",
    "look": "look inside a model while it writes, in the terminal or on a page",
    "perplexity": "measure how well a model predicts a text: bits per byte, perplexity",
    "inspect": "describe a model, its size and its memory",
    "models": "list the models on this disk and the architectures that run",
    "remove": "remove models, broken downloads and what was typed from this disk",
    "convert": "write a model once more, as int8, bfloat16 or float32",
    "compare": "show where a model differs from transformers, activation by activation",
    "diff": "show how two models differ: configs, tensors and activations, without torch",
    "experiments": "compare configurations of TinyStar: size, memory, cost and speed",
    "bench": "measure how fast a model runs here, alone or beside transformers",
    "completion": "print a script by which a shell completes these commands",
    "help": "show this, or the help of one command",
}


def ask_gpt2_parser() -> Parser:
    """Make the parser of ``ask-gpt2``."""
    parser = CommandParser(prog="ask-gpt2")
    _add_version(parser)
    _declare("ask", parser, default_model="openai-community/gpt2", images=False)
    parser.description = "Continue a text with GPT-2, which is downloaded the first time (0.5 GB)."
    return parser


def tinystar_parser() -> Parser:
    """Make the parser of ``tinystar``."""
    parser = Parser(
        prog="tinystar",
        description="Hugging Face language models in pure NumPy: run them, look inside, check them.",
        epilog=f"tinystar help COMMAND says more of one. The manual:\n{document('README.md')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # which breaks no address
    )
    _add_version(parser)
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    for name, words in COMMANDS.items():
        commands.add_parser(name, help=words).name = name
    return parser


def completed_parser(program: str) -> Parser:
    """Make the parser of a program whose command line a shell completes: with the command's options.

    The shell gives the line in COMP_LINE.
    """
    parser = PARSERS[program]()
    if program == "tinystar":
        words = os.environ.get("COMP_LINE", "").split()[1:]
        name = next((word for word in words if word in COMMANDS), None)
        for action in parser._actions:
            if name is not None and isinstance(action, argparse._SubParsersAction):
                action.choices[name].declare()
    return parser


MARK = "\0"  # before a word; no command line can have it


class CommandParser(Parser):
    """The parser of one command, which declares its options when it is chosen.

    Until then its module is not imported, so that no command waits for another's imports. Options and words
    may come in any order.
    """

    name: str | None = None
    _in_order = False

    def declare(self) -> None:
        """Let the command's module declare its options, the first time."""
        if self.name is not None:
            name, self.name = self.name, None
            _declare(name, self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments after the command's name; what is not understood is an error."""
        self.declare()
        if self._in_order or "_ARGCOMPLETE" in os.environ:
            return super().parse_known_args(args, namespace)
        self._in_order = True  # the method below calls this one, for the options and for the words
        try:
            namespace, extra = self.parse_known_intermixed_args(_words_marked(args), namespace)
        finally:
            self._in_order = False
        for action in self._get_positional_actions():
            given = vars(namespace).get(action.dest)
            if isinstance(given, list):
                setattr(namespace, action.dest, [word.removeprefix(MARK) for word in given])
            elif isinstance(given, str):
                setattr(namespace, action.dest, given.removeprefix(MARK))
        if extra:
            from tinystar_np.cli.nearest import unknown  # late: only mistakes need it

            self.error(unknown(extra, self))
        return namespace, extra


def _words_marked(args: Sequence[str] | None) -> list[str]:
    """Mark the words after "--" that would be read as options: argparse forgets it between its two passes."""
    words = sys.argv[1:] if args is None else list(args)
    if "--" not in words:
        return words
    end = words.index("--")
    return [*words[:end], *(MARK + word if word.startswith("-") else word for word in words[end + 1 :])]


def _declare(name: str, parser: Parser, **how: str | bool) -> None:
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
