"""How benchmarks start several processes that share a model: with MPI's mpiexec, on this machine."""

import shutil
import sys
from pathlib import Path

from tinystar_np.errors import TinyStarError

# Open MPI refuses to start as root, and more processes than there are cores.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def mpiexec(ranks: int) -> list[str]:
    """Return the beginning of a command that starts so many processes: nothing for one.

    Raises TinyStarError where there is no mpiexec.
    """
    if ranks == 1:
        return []
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise TinyStarError("There is no mpiexec. Install it: pip install 'tinystar_np[ranks]'")
    return [found, "-n", str(ranks)]
