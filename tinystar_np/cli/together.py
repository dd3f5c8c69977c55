"""A command that several processes run together: rank 0 runs it, and the others follow."""

import argparse
from collections.abc import Callable

from tinystar_np.cli.streams import FAILURE, OK, tell
from tinystar_np.cli.terminal import UsageError
from tinystar_np.cli.visible import visible
from tinystar_np.errors import RanksError
from tinystar_np.processes import started_together
from tinystar_np.ranks.mpi import MpiRanks


def run_together(command: Callable[[MpiRanks], int]) -> int:
    """Run a command on rank 0, while the other ranks follow it; returns this process's exit code."""
    try:
        ranks = MpiRanks()
    except RanksError as error:  # which all have
        if started_together().rank == 0:
            tell(f"error: {visible(str(error))}")
        return FAILURE
    if ranks.rank > 0:
        from tinystar_np.following import follow  # late: rank 0 does not need it

        follow(ranks)
        return OK
    with ranks:
        return command(ranks)


def raise_for_ranks(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a command that needs the whole model in one process, where there are several."""
    if vars(arguments).get("in_one_process"):
        raise UsageError(
            f"`{arguments.parser.prog}` runs in one process, with the whole model: start it without mpiexec."
        )
