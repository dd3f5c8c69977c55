"""OLMo against transformers: norms without parameters, clipped and unclipped, in both spellings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import (
    assert_close,
    check,
    edit_config,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)

from tinystar_np.errors import ConfigError
from tinystar_np.inspection.describe import describe_model
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "multi_head": {},
    "grouped": {"num_key_value_heads": 2},
    "clipped": {"clip_qkv": 0.5},
    "clipped_far_out": {"clip_qkv": 8.0},
    "attention_bias": {"attention_bias": True, "clip_qkv": 0.5},
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu"},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("olmo", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=70, cuts=([1, 2, 66, 1], [64, 6]))
    assert model.trained_length == 64
    assert not any("norm" in name for name in model.weights)
    assert describe_model(model).parts["norms"].words == "LayerNorm without gain or bias, eps 1e-05"


@pytest.mark.parametrize("variant", ["clipped", "base", "linear"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("olmo", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_the_clip_is_at_work(tmp_path: Path) -> None:
    """Low enough in the tests above to change what comes out."""
    save(reference_model("olmo", **SMALL), tmp_path)
    ids = random_ids(2, 50)
    free = load(tmp_path)[0](ids)
    edit_config(tmp_path, clip_qkv=0.5)
    assert np.abs(load(tmp_path)[0](ids) - free).max() > 0.01 * np.abs(free).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_qkv": 0}, "clip_qkv = 0.0 must be above 0"),
        ({"clip_qkv": "8"}, "clip_qkv = '8', but it must be float or null"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "olmo", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
