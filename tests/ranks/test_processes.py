"""Which environments say that a process is one of several; what starts them sets the variables."""

import pytest

from tinystar_np.processes import STARTED_BY, Started, started_together


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 0)),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}, (3, 2)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, (2, 1)),
        # srun, plain and with PMIx, whose variables name no count
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, (4, 3)),
        ({"PMIX_RANK": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, (2, 1)),
        # a shell of salloc, a script of sbatch, and an interactive step: one process of a job for four
        ({"SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_JOB_ID": "7"}, (1, 0)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, (1, 0)),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (1, 0)),
        # mpiexec within such a step
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMI_SIZE": "2", "PMI_RANK": "1"}, (2, 1)),
        ({"PMI_SIZE": "two", "PMI_RANK": "1"}, (1, 0)),
    ],
)
def test_what_is_found(
    given: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for names in STARTED_BY:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert started_together() == Started(*expected)
