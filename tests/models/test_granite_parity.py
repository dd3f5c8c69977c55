"""Granite with and without experts against transformers: every multiplier and switch, in both spellings."""

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
from transformers import AutoModelForCausalLM

from tinystar_np.errors import ConfigError
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
}
EXPERTS = {**SMALL, "intermediate_size": 20, "num_local_experts": 5, "num_experts_per_tok": 2}

DENSE: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "no_multipliers": {"embedding_multiplier": 1, "residual_multiplier": 1, "logits_scaling": 1},
    "wide_heads": {"head_dim": 12},
    "attention_bias": {"attention_bias": True},
    "mlp_bias": {"mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "epsilon": {"rms_norm_eps": 0.1},
    "gelu": {"hidden_act": "gelu"},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000_000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}
MIXTURES: dict[str, dict[str, Any]] = {
    "two_of_five": {},
    "one_of_five": {"num_experts_per_tok": 1},
    "all_of_five": {"num_experts_per_tok": 5},
    "one_of_one": {"num_local_experts": 1, "num_experts_per_tok": 1},
    "many": {"num_local_experts": 40, "num_experts_per_tok": 8, "intermediate_size": 8},
    "attention_bias": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu", "rms_norm_eps": 0.01},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
}
CASES = [
    *(("granite", {**SMALL, **changes}, name) for name, changes in DENSE.items()),
    *(("granitemoe", {**EXPERTS, **changes}, name) for name, changes in MIXTURES.items()),
]


@pytest.mark.parametrize(("model_type", "config"), [pytest.param(*c[:2], id=f"{c[0]}-{c[2]}") for c in CASES])
def test_variant(model_type: str, config: dict[str, Any], tmp_path: Path) -> None:
    reference = reference_model(model_type, **config)
    model = check(reference, save(reference, tmp_path), length=70, cuts=([1, 2, 66, 1], [64, 6]))
    assert model.context_length is None
    assert model.trained_length == 256


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("granite", {**SMALL, **DENSE["base"]}),
        ("granite", {**SMALL, **DENSE["linear"]}),
        ("granitemoe", {**EXPERTS, **MIXTURES["base"]}),
    ],
)
def test_old_spelling(model_type: str, config: dict[str, Any], tmp_path: Path) -> None:
    reference = reference_model(model_type, **config)
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_one_tensor_for_all_experts_in_narrow_types(tmp_path: Path) -> None:
    """Each expert is a matrix of its own, a view of the file where that is in bfloat16 already."""
    save(reference_model("granitemoe", **EXPERTS).to(torch.bfloat16), tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", dtype=torch.float32
    )
    ids = random_ids(2, 50)
    expected = logits_of(reference, ids)
    for dtype, kind, tolerance in (("auto", Bfloat16Matrix, 1e-5), ("int8", Int8Matrix, 0.1)):
        model, _ = load(tmp_path, dtype=dtype)
        assert_close(model(ids), expected, tolerance)
        experts = model.blocks[1].feed_forward.experts  # type: ignore[attr-defined]
        assert {type(expert.gate.weight) for expert in experts} == {kind}
        assert {type(expert.up.weight) for expert in experts} == {kind}
        assert {type(expert.down.weight) for expert in experts} == {kind}


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("granite", {"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among .*heads = 5"),
        ("granite", {"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
        ("granite", {"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
        ("granite", {"logits_scaling": 0}, "logits_scaling = 0"),
        ("granite", {"embedding_multiplier": "12"}, "embedding_multiplier = '12', but it must be float"),
        ("granite", {"rms_norm_eps": 0}, "rms_norm_eps = 0"),
        ("granite", {"rope_parameters": {"rope_type": "spiral"}}, "rope_type = 'spiral'"),
        ("granitemoe", {"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_local_experts = 5"),
        ("granitemoe", {"num_experts_per_tok": 0}, "num_experts_per_tok = 0 of num_local_experts = 5"),
        ("granitemoe", {"num_local_experts": 0}, "E = 0"),
    ],
)
def test_bad_configs(model_type: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    raw = {"model_type": model_type, **(SMALL if model_type == "granite" else EXPERTS), **changes}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_the_multipliers_are_numbers_of_the_files_own(tmp_path: Path) -> None:
    """None of them is taken from another, and each changes the result."""
    reference = reference_model("granite", **SMALL)
    save(reference, tmp_path)
    ids = random_ids(1, 20)
    expected = load(tmp_path)[0](ids)
    for key in ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"):
        edit_config(tmp_path, **{key: 1.5 * SMALL[key]})
        assert np.abs(load(tmp_path)[0](ids) - expected).max() > 1e-3 * np.abs(expected).max()
        edit_config(tmp_path, **{key: SMALL[key]})
