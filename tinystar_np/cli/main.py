"""The two commands: ``tinystar`` with its subcommands, and ``ask-gpt2``, its ``ask`` with GPT-2.

Everything else is imported within ``guarded``, which handles Ctrl-C: the imports take a quarter of a second.
Until then Python prints a traceback for it. So nothing is imported before, here or in the package, that
Python does not have already: typing, and enum within signal, would take longer than all the rest.
"""

import _signal as signal  # type: ignore[import-not-found] # what the module signal is made of

TYPE_CHECKING = False  # as in typing
if TYPE_CHECKING:
    from collections.abc import Sequence


def ask_gpt2(arguments: "Sequence[str] | None" = None) -> int:
    """Run ``ask-gpt2``; returns the exit code."""
    return _run("ask-gpt2", arguments)


def tinystar(arguments: "Sequence[str] | None" = None) -> int:
    """Run ``tinystar``; returns the exit code."""
    return _run("tinystar", arguments)


def _run(program: str, given: "Sequence[str] | None") -> int:
    """Run a program with the given arguments; None for the process's own. Returns the exit code."""
    if given is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process at once: nothing is begun
    from tinystar_np.cli.streams import guarded

    with guarded(alone=given is None) as ended:
        from tinystar_np.cli.completion import complete, is_asked_for
        from tinystar_np.cli.model_argument import settle_model
        from tinystar_np.cli.parsers import PARSERS, completed_parser
        from tinystar_np.cli.terminal import as_asked, errors_told

        if given is None and is_asked_for():
            complete(completed_parser(program))
        arguments = PARSERS[program]().parse_args(given)
        with errors_told(arguments, ended), as_asked(arguments):
            settle_model(arguments)
            ended.code = arguments.command(arguments)
    return ended.code
