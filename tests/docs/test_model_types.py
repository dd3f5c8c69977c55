"""Every causal language model of transformers runs here, or is refused with its reason and the nearest."""

import json
from pathlib import Path

import model_types
import pytest
from model_types import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, TYPES, runs, status

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import ARCHITECTURES, model_class
from tinystar_np.models.not_yet import NOT_YET
from tinystar_np.models.registry import ALIKE, OLD_SPELLINGS
from tinystar_np.models.text_part import TEXT_PARTS, text_config


def test_the_page_is_up_to_date() -> None:
    assert model_types.PAGE.read_text(encoding="utf-8") == model_types.page(), (
        "run: python docs/tools/model_types.py"
    )


def test_every_type_is_on_it_once() -> None:
    assert [name for name in TYPES if not runs(name) and name not in NOT_YET] == []
    assert [name for name in NOT_YET if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES] == []
    assert [name for name in NOT_YET if runs(name)] == []


@pytest.mark.parametrize("model_type", [name for name in TYPES if runs(name)])
def test_what_runs_has_a_class(model_type: str) -> None:
    part = text_config({"model_type": model_type, "text_config": {}}) if model_type in TEXT_PARTS else {}
    assert model_class(str(part.get("model_type", model_type))).WEIGHTS


@pytest.mark.parametrize("model_type", NOT_YET)
def test_what_does_not_run_says_why_and_what_is_nearest(model_type: str, tmp_path: Path) -> None:
    nearest, why = NOT_YET[model_type]
    assert nearest in ARCHITECTURES
    assert why in status(model_type)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    assert f"{why}.\nThe nearest that runs is {nearest}." in str(raised.value)


def test_a_type_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"The nearest that runs is qwen2\. `tinystar models`"):
        model_class("qwen2x")
    with pytest.raises(ConfigError, match=r"which is not implemented here\.\n`tinystar models` lists all"):
        model_class("zzzz")


def test_other_names_are_of_what_runs() -> None:
    assert {*OLD_SPELLINGS.values(), *ALIKE.values()} <= set(ARCHITECTURES)
