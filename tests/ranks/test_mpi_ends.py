"""How commands under mpiexec end: by Ctrl-C, errors on any rank, a rank that is killed; nobody is left."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from mpi_processes import IS_OPEN_MPI, PATIENCE, TINYSTAR, Ranks, run, started

ROOT = Path(__file__).parents[2]
PROMPT = "Once upon a time"
LAYERS = ["--parallel", "layers"]
GREEDY = ["-q", "--temperature", "0"]
OF_MPIEXEC = re.compile(
    r"^(-{20}|=|\[\S+:\d+\]|\[mpiexec@|\[warn\]|YOUR APPLICATION|prterun|This typically|Please see|MPICH:)"
)
"""What lines of mpiexec's own begin with."""


def told(error: str) -> str:
    """Return what was written on stderr, without what mpiexec says at the end."""
    lines = error.splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if OF_MPIEXEC.match(line)]
    return "".join(lines[: ends[0]] if ends else lines).rstrip("\n") + "\n"


# Programs in which a rank does something else at a certain place.

RANK = """
import os, sys
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["PMI_RANK"])
"""
FAILING_IN_A_CALL = f"""{RANK}
import itertools, tinystar_np.models.gpt2 as t
if rank == 1:
    plain, calls = t.Block.__call__, itertools.count()
    def fail(*given):
        if next(calls) > 12: raise {{error}}
        return plain(*given)
    t.Block.__call__ = fail
"""
FAILING_ON_RANK_0 = FAILING_IN_A_CALL.replace("rank == 1", "rank == 0")
FAILING_TO_LOAD = f"""{RANK}
import tinystar_np.models.gpt2 as t
def fail(*given): raise MemoryError("Nothing is left.")
if rank == 1: t.GPT2.build = fail
"""
WAITING = f"""{RANK}
import itertools, time, tinystar_np.models.gpt2 as t
plain, calls = t.GPT2.embed, itertools.count()
def embed(*given):
    if rank == 0 and next(calls) == 8: sys.stderr.write("NOW\\n"); sys.stderr.flush(); time.sleep(60)
    return plain(*given)
t.GPT2.embed = embed
"""


def wait_for(ranks: Ranks, line: str) -> None:
    """Wait until a line is on stderr."""
    assert ranks.process.stderr is not None
    until = time.monotonic() + PATIENCE
    while (found := ranks.process.stderr.readline()) != line:
        assert found, "it has ended"
        assert time.monotonic() < until


@pytest.mark.parametrize("way", [[], LAYERS], ids=["heads", "layers"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        ('MemoryError("Nothing is left.")', "There is not enough memory. Nothing is left."),
        ("OSError(5, 'no disk')", "OSError: [Errno 5] no disk"),
    ],
)
def test_an_error_in_a_call(way: list[str], error: str, words: str) -> None:
    program = FAILING_IN_A_CALL.format(error=error) + TINYSTAR
    ended = run("ask", *GREEDY, *way, PROMPT, program=program)
    assert re.fullmatch(rf"error: Rank 1 on \S+: {re.escape(words)}\n", told(ended.stderr))
    assert ended.returncode == 1
    assert ", there was a little girl".startswith(ended.stdout.strip())


@pytest.mark.parametrize("way", [[], LAYERS], ids=["heads", "layers"])
def test_an_error_of_rank_0_in_a_call(way: list[str]) -> None:
    program = FAILING_ON_RANK_0.format(error="MemoryError") + TINYSTAR
    ended = run("ask", *GREEDY, *way, PROMPT, program=program, ranks=3)
    assert told(ended.stderr) == "error: There is not enough memory.\n"
    assert ended.returncode == 1


def test_an_error_while_loading() -> None:
    ended = run("ask", *GREEDY, PROMPT, program=FAILING_TO_LOAD + TINYSTAR, ranks=3)
    words = r"error: Rank 1 on \S+: There is not enough memory. Nothing is left.\n"
    assert re.fullmatch(words, told(ended.stderr))
    assert (ended.returncode, ended.stdout) == (1, "")


def test_errors_of_rank_0_before_anything_is_shared() -> None:
    ended = run("ask", "--warmth", "0", PROMPT)
    assert told(ended.stderr).startswith("error: there is no option --warmth.")
    assert ended.returncode == 2
    ended = run("ask", *LAYERS, PROMPT, ranks=7)
    words = "error: 7 ranks cannot share 6 layers: each takes one at least. Start fewer.\n"
    assert (ended.returncode, told(ended.stderr)) == (1, words)


OTHER_FILES = f"""{RANK}
import shutil, tempfile, pathlib
import tinystar_np.following as f
plain = f.find_model
def other(name, **how):
    found = plain(name, **how)
    folder = pathlib.Path(tempfile.mkdtemp()) / "stories"
    shutil.copytree(found, folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    return folder
if rank == 1: f.find_model = other
"""
OTHER_VERSION = f"""{RANK}
import tinystar_np.following as f
if rank == 1: f.__version__ = "0.0.1"
"""


def test_other_files() -> None:
    ended = run("ask", *GREEDY, PROMPT, program=OTHER_FILES + TINYSTAR)
    words = (
        r"error: Rank 1 on (\S+) has other files of stories than rank 0 on \1: other weights, or another "
        r"config.json.\nCopy the files from one to the other.\n"
    )
    assert re.fullmatch(words, told(ended.stderr))
    assert (ended.returncode, ended.stdout) == (1, "")


def test_another_version() -> None:
    ended = run("ask", *GREEDY, PROMPT, program=OTHER_VERSION + TINYSTAR)
    words = r"error: Rank 1 on \S+: it has tinystar_np 0.0.1, and rank 0 has \S+. Install the same.\n"
    assert re.fullmatch(words, told(ended.stderr))
    assert (ended.returncode, ended.stdout) == (1, "")


@pytest.mark.parametrize("way", [[], LAYERS], ids=["heads", "layers"])
def test_ctrl_c(way: list[str]) -> None:
    """A terminal sends it to mpiexec, which is in its foreground; the ranks are in groups of their own."""
    with started("ask", *GREEDY, *way, PROMPT, program=WAITING + TINYSTAR) as ranks:
        wait_for(ranks, "NOW\n")
        os.killpg(ranks.process.pid, signal.SIGINT)
        ended = ranks.end()
        ranks.wait_until_gone()
    assert ended.stdout.strip().startswith(", there was a")
    assert "Traceback" not in ended.stderr
    # Open MPI's mpiexec has a code of its own, whatever those of its processes are.
    assert ended.returncode == (1 if IS_OPEN_MPI else 130)


def test_ctrl_c_of_rank_0_alone() -> None:
    with started("ask", *GREEDY, PROMPT, program=WAITING + TINYSTAR) as ranks:
        wait_for(ranks, "NOW\n")
        (leader,) = ranks.left(0)
        os.kill(leader, signal.SIGINT)
        ended = ranks.end()
        ranks.wait_until_gone()
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 130


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed(victim: int) -> None:
    with started("ask", *GREEDY, PROMPT, program=WAITING + TINYSTAR) as ranks:
        wait_for(ranks, "NOW\n")
        begun = time.monotonic()
        (number,) = ranks.left(victim)
        os.kill(number, signal.SIGKILL)
        ended = ranks.end()
        ranks.wait_until_gone()
        assert time.monotonic() - begun < 10
    assert ended.returncode in (9, 137)


def test_nobody_reads_the_text() -> None:
    """``mpiexec … tinystar ask … | head -1``."""
    with started("ask", *GREEDY, "-n", "50", "--no-stream", PROMPT) as ranks:
        assert ranks.process.stdout is not None
        ranks.process.stdout.close()
        assert ranks.process.stderr is not None
        error = ranks.process.stderr.read()
        ranks.process.wait(PATIENCE)
        ranks.wait_until_gone()
    assert "Traceback" not in error


def test_without_mpi4py() -> None:
    program = "import sys; sys.modules['mpi4py'] = None\n" + TINYSTAR
    ended = run("ask", *GREEDY, PROMPT, program=program, ranks=3)
    assert told(ended.stderr).splitlines() == [
        "error: 3 processes were started together, and need MPI to share a model, which is not here "
        "(import of mpi4py halted; None in sys.modules).",
        "Install it: pip install 'tinystar_np[ranks]'",
    ]
    assert ended.returncode == 1


ROOT = Path(__file__).parents[2]
SHARED_TEXT = ["perplexity", "-q", "--window", "8", str(ROOT / "CITATION.cff")]


@pytest.mark.parametrize("victim", [0, 1])
def test_an_error_where_texts_are_shared(victim: int) -> None:
    program = FAILING_IN_A_CALL.replace("rank == 1", f"rank == {victim}").format(error="MemoryError")
    ended = run(*SHARED_TEXT, program=program + TINYSTAR, ranks=3)
    words = "There is not enough memory."
    expected = rf"error: Rank 1 on \S+: {words}\n" if victim else f"error: {words}\n"
    assert re.fullmatch(expected, told(ended.stderr))
    assert (ended.returncode, ended.stdout) == (1, "")


def test_ctrl_c_where_texts_are_shared() -> None:
    with started(*SHARED_TEXT, program=WAITING + TINYSTAR) as ranks:
        wait_for(ranks, "NOW\n")
        os.killpg(ranks.process.pid, signal.SIGINT)
        ended = ranks.end()
        ranks.wait_until_gone()
    assert "Traceback" not in ended.stderr
    assert ended.returncode == (1 if IS_OPEN_MPI else 130)
    said = [line for line in ended.stdout.splitlines() if not line.startswith("[mpiexec@")]  # MPICH's words
    assert not said


LITTLE_MEMORY = "import tinystar_np.dividing as d\nd.usable_memory = lambda: 400_000\n"


def test_memory_for_less_than_a_copy_each() -> None:
    """The model is divided then, and refused where it was to be whole on each rank."""
    program = LITTLE_MEMORY + TINYSTAR
    ended = run("perplexity", "--dtype", "int8", *SHARED_TEXT[2:], program=program)
    assert ended.returncode == 0
    assert ended.stderr.startswith("2 processes share the model: each has a share of every layer.\n")
    ended = run(*SHARED_TEXT, "--dtype", "int8", "--parallel", "prompts", program=program)
    words = r"error: 2 ranks with the whole model each need 0\.\d GB on \S+, which has 0.0 GB of memory left."
    assert re.match(words, told(ended.stderr))
    assert ended.returncode == 1
