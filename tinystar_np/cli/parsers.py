"""What the two commands understand."""

import argparse

from tinystar_np import __version__
from tinystar_np.cli import ask, bench, chat, compare, experiments, inspect, models
from tinystar_np.cli.terminal import Parser


def ask_gpt2_parser() -> Parser:
    """Make the parser of ``ask-gpt2``."""
    parser = Parser(
        prog="ask-gpt2",
        description="Continue a text with GPT-2, which is downloaded the first time (0.5 GB).",
        epilog=ask.EXAMPLES.format(command="ask-gpt2"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_version(parser)
    ask.add_arguments(parser, default_model="openai-community/gpt2")
    return parser


def tinystar_parser() -> Parser:
    """Make the parser of ``tinystar``."""
    parser = Parser(
        prog="tinystar",
        description="Hugging Face language models in pure NumPy: run them, look inside, check them.",
    )
    _add_version(parser)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    continuing = commands.add_parser(
        "ask",
        help="continue a text",
        description="Continue a text.",
        epilog=ask.EXAMPLES.format(command="tinystar ask"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.add_arguments(continuing, default_model="stories")
    talking = commands.add_parser(
        "chat",
        help="talk with a chat model",
        description=chat.__doc__,
        epilog=chat.NOTES.format(command="tinystar chat"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chat.add_arguments(talking)
    inspect.add_arguments(
        commands.add_parser(
            "inspect", help="say what a model is and what it takes", description=inspect.__doc__
        )
    )
    models.add_arguments(
        commands.add_parser(
            "models",
            help="list the models on this disk and the architectures that run",
            description=models.__doc__,
        )
    )
    compare.add_arguments(
        commands.add_parser(
            "compare",
            help="show where a model parts from transformers, activation by activation",
            description=compare.__doc__,
        )
    )
    experiments.add_arguments(
        commands.add_parser(
            "experiments",
            help="compare configurations of TinyStar: what they take, how fast they run here",
            description=experiments.__doc__,
        )
    )
    bench.add_arguments(
        commands.add_parser(
            "bench",
            help="measure how fast a model runs here, alone or beside transformers",
            description=bench.__doc__,
        )
    )
    return parser


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"tinystar_np {__version__}")
