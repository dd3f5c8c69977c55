"""Ministral: what transformers' class accepts, and its model breaks off at."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import edit_config, random_ids, reference_model, save
from parity_case import FULL
from parity_cases import ROWS

from tinystar_np.loading import load

ALL_FAR = {**ROWS["ministral"].smallest, "layer_types": [FULL, FULL]}


@pytest.mark.parametrize("left_out", ["head_dim", "sliding_window"])
def test_a_null_is_its_usual_value(left_out: str, tmp_path: Path) -> None:
    """Heads divide the width, and layers without a window see all."""
    save(reference_model("ministral", **ALL_FAR), tmp_path)
    ids = random_ids(2, 20)
    expected = load(tmp_path)[0](ids)
    raw: dict[str, Any] = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {left_out: None}))
    np.testing.assert_array_equal(load(tmp_path)[0](ids), expected)
    edit_config(tmp_path, layer_types=None)  # the usual kind of each layer
    assert np.array_equal(load(tmp_path)[0](ids), expected) == (left_out == "sliding_window")
