"""Packed models in the commands: inspected, and converted into types that others read."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_models import save_packed
from parity import assert_close, random_ids
from test_packed_integers import FORMS
from test_packed_mxfp4 import save_mxfp4
from transformers import AutoModelForCausalLM

from tinystar_np.cli.main import tinystar
from tinystar_np.conversion import convert
from tinystar_np.loading import load


def test_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_packed(tmp_path, *FORMS["awq"])
    assert tinystar(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "14 tensors AWQ 4 bits" in shown
    assert "14 of these are packed matrices; all together 1" in shown
    assert re.search(r"loaded as +packed [\d.]+ KB · float32", shown)
    assert tinystar(["inspect", str(tmp_path), "--json"]) == 0
    stored = json.loads(capsys.readouterr().out)["weights"]["stored"]
    assert stored["packed"] == 14
    assert 4 < stored["bits_per_weight"] < 32
    (tmp_path / "model.safetensors").unlink()
    assert tinystar(["inspect", str(tmp_path)]) == 0
    assert "awq by config.json" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("form", ["awq", "mlx, 4 bits"])
def test_convert(form: str, dtype: str, tmp_path: Path) -> None:
    pack, settings = FORMS[form]
    key = "quantization" if "mlx" in form else "quantization_config"
    save_packed(tmp_path / "old", pack, settings, key=key)
    convert(tmp_path / "old", tmp_path / "new", dtype)
    ids = random_ids(2, 20)
    ours = load(tmp_path / "new", dtype)[0](ids)
    assert_close(ours, load(tmp_path / "old", dtype)[0](ids))
    if dtype == "float32":
        reference: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "new", attn_implementation="eager")
        with torch.no_grad():
            assert_close(ours, reference(torch.from_numpy(ids)).logits.numpy())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_convert_mxfp4(dtype: str, tmp_path: Path) -> None:
    """Experts are exact in bfloat16, and stay so where they are not rounded."""
    save_mxfp4(tmp_path / "old")
    convert(tmp_path / "old", tmp_path / "new", dtype)
    new, _ = load(tmp_path / "new")
    old, _ = load(tmp_path / "old", "float32")
    name = "blocks.1.feed_forward.experts.3.down.weight"
    found = new.weights[name]
    numbers = found if isinstance(found, np.ndarray) else found.rows(slice(None))
    np.testing.assert_array_equal(numbers, old.weights[name])
    assert (
        "quantization_config" not in json.loads((tmp_path / "new" / "config.json").read_text())
        or dtype == "int8"
    )
