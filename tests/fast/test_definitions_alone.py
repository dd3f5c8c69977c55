"""The definitions alone carry every kind of model: parity with nothing of ``fast`` in the way."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import assert_close, check, reference_model, save
from small_models import DENSE, EXPERTS

from tinystar_np import fast
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig

TINYSTAR = {  # kinds of attention that no published architecture here has
    "relative": {"positions": "relative", "max_positions": 20},
    "both ways": {"mask": "bidirectional", "positions": "alibi"},
    "complex": {"attention": "complex"},
    "latent, alibi": {"attention": "mla", "positions": "alibi"},
}


def leave_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let layers find what they find where TINYSTAR_NP_KERNELS=1."""
    for name, kernel in fast.KERNELS.items():
        monkeypatch.setattr(fast, name, kernel)


def test_the_environment_variable_leaves_the_definitions() -> None:
    code = (
        "import tinystar_np.fast as fast;"
        "print(all(getattr(fast, name) is kernel for name, kernel in fast.KERNELS.items()))"
    )
    for value, expected in (("1", "True"), ("0", "False")):
        environment = os.environ | {"TINYSTAR_NP_KERNELS": value}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert ran.stdout.strip() == expected, ran.stderr


@pytest.mark.parametrize("name", [*DENSE, *EXPERTS])
def test_parity(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_definitions(monkeypatch)
    model_type, config = (DENSE | EXPERTS)[name]
    reference = reference_model(model_type, **config)
    check(reference, save(reference, tmp_path))


@pytest.mark.parametrize("name", TINYSTAR)
def test_what_only_tinystar_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyStar(
        TinyStarConfig(hidden_size=48, num_layers=2, num_heads=4, init_std=0.3, **TINYSTAR[name])
    )
    ids = np.random.default_rng(0).integers(0, 256, (2, 90))
    expected = model(ids)
    leave_definitions(monkeypatch)
    assert_close(model(ids), expected)
