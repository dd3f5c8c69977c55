"""gpt-oss against transformers: sinks, windows in turns, clamped experts with biases, its yarn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 17,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "swiglu_limit": 0.8,  # of the random activations, many are beyond
}
CUTS = ([1, 2, 46, 1], [16, 34], [17, 33], [18, 1, 31])

VARIANTS: dict[str, dict[str, Any]] = {
    "as_it_comes": {},
    "one": {"num_experts_per_tok": 1},
    "all": {"num_experts_per_tok": 5},
    "limit": {"swiglu_limit": 7.0},
    "alpha": {"swiglu_alpha": 1.0},
    "no_bias": {"attention_bias": False},
    "layer_types": {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
    "tied": {"tie_word_embeddings": True},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "truncated": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 8.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": True,
            "original_max_position_embeddings": 512,
        }
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gpt_oss", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=50, cuts=CUTS)
    assert model.trained_length == 131072


def test_the_clamps_and_the_sinks_are_felt(tmp_path: Path) -> None:
    reference = reference_model("gpt_oss", **SMALL)
    ids = random_ids(1, 20)
    model, _ = load(save(reference, tmp_path / "with"))
    expected = model(ids)
    edit_config(tmp_path / "with", swiglu_limit=7.0)
    assert np.abs(load(tmp_path / "with")[0](ids) - expected).max() > 0.01 * np.abs(expected).max()
    with torch.no_grad():
        for layer in reference.model.layers:
            layer.self_attn.sinks.fill_(-100)
    model, _ = load(save(reference, tmp_path / "without"))
    assert np.abs(model(ids) - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("variant", ["as_it_comes", "truncated"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gpt_oss", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    assert "rope_scaling" in (tmp_path / "config.json").read_text()
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_without_a_word_of_rotations_it_is_yarn(tmp_path: Path) -> None:
    """And the layers take turns, and so on: as in transformers' class."""
    reference = reference_model("gpt_oss", **SMALL)
    save(reference, tmp_path, rope_parameters=None, layer_types=None, attention_bias=None, swiglu_alpha=None)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quantization_config = .*mxfp4.* is not"),
        ({"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_local_experts = 5"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, but num_hidden_layers = 3"),
        (
            {"sliding_window": None},
            r"layer_types\[0\] = 'sliding_attention', but no sliding_window is in use",
        ),
        ({"swiglu_limit": 0}, "swiglu_limit = 0.0 must be above 0"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_oss", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
