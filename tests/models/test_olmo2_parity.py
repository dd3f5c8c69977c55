"""OLMo 2 against transformers: norms behind branches and of queries and keys, in both spellings."""

import json
from pathlib import Path
from typing import Any

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
    "multi_query": {"num_key_value_heads": 1},
    "attention_bias": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu"},
    "epsilon": {"rms_norm_eps": 0.1},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("olmo2", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=70, cuts=([1, 2, 66, 1], [64, 6]))
    assert model.trained_length == 64
    assert "norm" in describe_model(model).layers[0]["block"].words


@pytest.mark.parametrize("variant", ["grouped", "base", "yarn"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("olmo2", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "olmo2", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
