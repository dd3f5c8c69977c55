"""Cohere against transformers: parallel blocks of Llama's parts, norms of queries and keys, scaled logits."""

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

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}


def rope(rope_type: str, **numbers: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **numbers}}


VARIANTS: dict[str, dict[str, Any]] = {
    "command_r": {},
    "command_r_plus": {"num_key_value_heads": 2, "use_qk_norm": True, "logit_scale": 0.83},
    "biases": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
    "wide_heads": {"head_dim": 12, "use_qk_norm": True},
    "epsilon": {"layer_norm_eps": 0.1, "use_qk_norm": True, "hidden_act": "gelu"},
    "linear": rope("linear", factor=4.0),
    "yarn": rope("yarn", factor=4.0, original_max_position_embeddings=16),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("cohere", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", VARIANTS)
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("cohere", **{**SMALL, **VARIANTS[variant]})
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    edit_config(tmp_path, **old_spelling(raw))
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_defaults_of_what_a_file_leaves_out(tmp_path: Path) -> None:
    reference = reference_model("cohere", **SMALL)
    keys = "rope_parameters", "logit_scale", "layer_norm_eps", "hidden_act", "tie_word_embeddings"
    save(reference, tmp_path, **dict.fromkeys(keys))
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_logits_are_scaled_in_float32(tmp_path: Path) -> None:
    save(reference_model("cohere", **SMALL), tmp_path / "one")
    save(reference_model("cohere", **SMALL), tmp_path / "half", logit_scale=0.03125)
    one, half = (load(tmp_path / name)[0](random_ids(9)) for name in ("one", "half"))
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half * 2, one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"num_key_value_heads": 4}, "= 6 cannot be divided among num_key_value_heads = 4"),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0.0 must be above 0"),
        ({"logit_scale": "1"}, "logit_scale = '1', but it must be float"),
        ({"use_qk_norm": "no"}, "use_qk_norm = 'no', but it must be"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("cohere", **SMALL), tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_weights_of_another_variant(tmp_path: Path) -> None:
    save(reference_model("cohere", **SMALL), tmp_path, use_qk_norm=True)
    with pytest.raises(CheckpointError, match=r"lacks 'layers.0.self_attn.q_norm.weight'"):
        load(tmp_path)
