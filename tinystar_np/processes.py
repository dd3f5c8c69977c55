"""Whether this process is one of several that were started together, by mpiexec or Slurm's srun.

What starts them says so in the environment of each, so a program that runs alone imports nothing for it.
"""

import os
from typing import NamedTuple

STARTED_BY = (
    # how many there are, which of them this one is, and who says so
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI's mpiexec
    ("PMI_SIZE", "PMI_RANK"),  # MPICH's and Intel's, and those that come from it
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun; in a batch script without it there is no step
)
OPEN_MPI = STARTED_BY[0][0]


class Started(NamedTuple):
    """The processes that were started together.

    size  how many there are
    rank  which of them this is, from 0
    """

    size: int
    rank: int


def started_together() -> Started:
    """Return how many processes were started together; (1, 0) for one alone."""
    for count, number in STARTED_BY:
        given = os.environ.get(count, ""), os.environ.get(number, "")
        if all(each.isdecimal() for each in given):
            return Started(int(given[0]), int(given[1]))
    return Started(1, 0)
