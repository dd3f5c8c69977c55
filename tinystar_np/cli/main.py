"""The two commands: ``tinystar`` with its subcommands, and ``ask-gpt2``, its ``ask`` with GPT-2.

Everything else is imported within ``guarded``, which handles Ctrl-C: the imports take a quarter of a second.
Until then Python prints a traceback for it. So nothing is imported before, here or in the package, that
Python does not have already: typing, and enum within signal, would take longer than all the rest.
"""

import _signal as signal  # type: ignore[import-not-found] # what the module signal is made of

TYPE_CHECKING = False  # as in typing
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinystar_np.ranks.mpi import MpiRanks


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
    if given is None:
        from tinystar_np.processes import started_together

        if started_together().size > 1:
            from tinystar_np.cli.together import run_together

            return run_together(lambda ranks: _command(program, given, ranks))
    return _command(program, given)


def _command(program: str, given: "Sequence[str] | None", ranks: "MpiRanks | None" = None) -> int:
    """Run a program in this process; ``ranks`` are those that it may share a model with."""
    from tinystar_np.cli.streams import guarded

    with guarded(alone=given is None) as ended:
        from tinystar_np.cli.completion import complete, is_asked_for
        from tinystar_np.cli.model_argument import settle_model
        from tinystar_np.cli.parsers import PARSERS, completed_parser
        from tinystar_np.cli.terminal import as_asked, errors_told

        if given is None and is_asked_for():
            complete(completed_parser(program))
        arguments = PARSERS[program]().parse_args(given)
        arguments.ranks = ranks
        with errors_told(arguments, ended), as_asked(arguments):
            if ranks is not None:
                from tinystar_np.cli.together import raise_for_ranks

                raise_for_ranks(arguments)
            settle_model(arguments)
            ended.code = arguments.command(arguments)
    return ended.code
