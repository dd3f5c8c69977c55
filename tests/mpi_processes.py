"""Processes that MPI's mpiexec starts: run with a limit of time, and ended whatever happens."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

PATIENCE = 60.0
"""Seconds that anything here may take; one run takes one or two."""
TINYSTAR = "import sys; from tinystar_np.cli.main import tinystar; sys.exit(tinystar())"

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
_beside = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(_beside) if _beside.exists() else shutil.which("mpiexec")
if MPIEXEC is None:
    pytest.skip("there is no mpiexec: pip install mpich", allow_module_level=True)
IS_OPEN_MPI = "Open MPI" in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout
MARK = "TINYSTAR_NP_TEST"
"""A variable that all processes of one run have: their launchers put them into sessions of their own."""
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # ranks beside other tests
    # Open MPI refuses to start as root, and more processes than there are cores.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


class Ranks:
    """Processes that were started by mpiexec.

    process  mpiexec
    """

    def __init__(self, command: list[str], ranks: int, **environment: str):
        assert MPIEXEC is not None
        self.mark = uuid4().hex
        self.process = subprocess.Popen(
            [MPIEXEC, "-n", str(ranks), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, MARK: self.mark, **environment},
            start_new_session=True,
        )

    def end(self, given: str = "") -> subprocess.CompletedProcess[str]:
        """Wait for the end."""
        out, error = self.process.communicate(given, timeout=PATIENCE)
        return subprocess.CompletedProcess([], self.process.returncode, out, error)

    def left(self, rank: int | None = None) -> list[int]:
        """Return the processes of these that are there, mpiexec among them; or only that of a rank."""
        wanted = {f"{MARK}={self.mark}"}
        of_rank = {f"{name}={rank}" for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK")}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # it has just ended, or is another user's
                variables = set(path.read_bytes().decode(errors="replace").split("\0"))
                if wanted <= variables and (rank is None or of_rank & variables):
                    found.append(int(path.parent.name))
        return found

    def wait_until_gone(self, seconds: float = 10) -> None:
        """Wait until none of them is there."""
        until = time.monotonic() + seconds
        while self.left():
            assert time.monotonic() < until, "processes are left"
            time.sleep(0.01)

    def kill(self) -> None:
        """End all of them."""
        while left := self.left():
            for number in left:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.01)
        self.process.wait(PATIENCE)


@contextmanager
def started(*arguments: str, ranks: int = 2, program: str = TINYSTAR, **environment: str) -> Iterator[Ranks]:
    """Start a program, usually ``tinystar``, on several ranks; whatever is left in the end is ended."""
    found = Ranks([sys.executable, "-c", program, *arguments], ranks, **environment)
    try:
        yield found
    finally:
        found.kill()


def run(
    *arguments: str, ranks: int = 2, given: str = "", program: str = TINYSTAR, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program on several ranks to its end."""
    with started(*arguments, ranks=ranks, program=program, **environment) as found:
        ended = found.end(given)
        found.wait_until_gone()
    return ended


def run_alone(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``tinystar`` in one process to its end."""
    return subprocess.run(
        [sys.executable, "-c", TINYSTAR, *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **ENVIRONMENT},
    )
