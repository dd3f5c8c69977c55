"""Commands and programs under mpiexec: what one process gives, on two and three ranks."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
from mpi_processes import ENVIRONMENT, Ranks, run, run_alone, started
from smollm2 import SMOLLM2

ROOT = Path(__file__).parents[2]
PROMPT = "Once upon a time"
GREEDY = ["--temperature", "0"]


@pytest.mark.parametrize(("ranks", "shared"), [(2, "0–1, 2–5"), (3, "0, 1–3, 4–5")])
def test_a_text_is_the_same(ranks: int, shared: str) -> None:
    ask = ["ask", "-m", "stories", *GREEDY, "--json", "-n", "30", PROMPT]
    ended = run(*ask, ranks=ranks)
    assert (ended.returncode, ended.stderr) == (0, f"{ranks} ranks share the layers: {shared}.\n")
    assert json.loads(ended.stdout) == json.loads(run_alone(*ask).stdout)


def test_what_is_drawn_is_the_same() -> None:
    ask = ["ask", "-q", "--seed", "3", "-n", "30", "--stop", "mom", "--prompt-lookup", "3"]
    ended = run(*ask, "--parallel", "layers", "-", given=PROMPT + "\n/")
    assert ended.returncode == 0
    assert ended.stdout == run_alone(*ask, given=PROMPT + "\n/").stdout
