"""The definitions alone carry every kind of model: parity with nothing of ``fast`` in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[1] / "models"
FEW = ("gpt2", "gemma2", "mixtral", "mamba", "mamba2", "deepseek_v2")


@pytest.mark.parametrize("name", FEW)
def test_parity(name: str) -> None:
    code = (
        "import sys, pytest, tinystar_np.fast as fast;"
        "assert all(getattr(fast, name) is kernel for name, kernel in fast.KERNELS.items());"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "-q", "-x", "-p", "no:cacheprovider", "-k", "not one_size"]
    command.append(str(MODELS / f"test_{name}_parity.py"))
    ran = subprocess.run(
        command, env=os.environ | {"TINYSTAR_NP_KERNELS": "1"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
