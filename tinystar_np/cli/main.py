"""The two commands: ``tinystar`` with its subcommands, and ``ask-gpt2``, its ``ask`` with GPT-2.

Everything else is imported where Ctrl-C is awaited: it takes a quarter of a second, long enough to press it.
"""

from collections.abc import Sequence

from tinystar_np.cli.streams import guarded


def ask_gpt2(arguments: Sequence[str] | None = None) -> int:
    """Run ``ask-gpt2``; returns the exit code."""

    def command() -> int:
        from tinystar_np.cli.parsers import ask_gpt2_parser
        from tinystar_np.cli.terminal import run

        return run(ask_gpt2_parser(), arguments)

    return guarded(command, alone=arguments is None)


def tinystar(arguments: Sequence[str] | None = None) -> int:
    """Run ``tinystar``; returns the exit code."""

    def command() -> int:
        from tinystar_np.cli.parsers import tinystar_parser
        from tinystar_np.cli.terminal import run

        return run(tinystar_parser(), arguments)

    return guarded(command, alone=arguments is None)
