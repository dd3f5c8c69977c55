"""Starting a program in several processes, with the mpiexec of whichever MPI is installed."""

import shutil
import sys
from pathlib import Path

from tinystar_np.errors import TinyStarError

FOR_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
"""Variables without which Open MPI refuses to start as root, and more processes than there are cores."""


def together(ranks: int) -> list[str]:
    """Return what stands before a command so that as many processes run it; nothing for one."""
    if ranks == 1:
        return []
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise TinyStarError("There is no mpiexec. Install it: pip install 'tinystar_np[ranks]'")
    return [found, "-n", str(ranks)]
