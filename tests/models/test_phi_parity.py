"""Phi against transformers: groups, norms of queries and keys, rotations of parts of heads."""

import json
from pathlib import Path
from typing import Any

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
from safetensors.torch import load_file, save_file

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def rope(rope_type: str = "default", part: float = 0.5, **more: Any) -> dict[str, Any]:
    parameters = {"rope_type": rope_type, "rope_theta": 10000.0, "partial_rotary_factor": part, **more}
    return {"rope_parameters": parameters}


VARIANTS: dict[str, dict[str, Any]] = {
    "as_published": {},
    "phi_2": {"hidden_size": 80, **rope(part=0.4)},
    "grouped": {"num_key_value_heads": 2},
    "normed": {"qk_layernorm": True, "num_key_value_heads": 1, "layer_norm_eps": 0.01},
    "tied": {"tie_word_embeddings": True},
    "relu": {"hidden_act": "relu"},
    "linear": rope("linear", factor=4.0),
    "llama3": rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("phi", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_of_the_hub(variant: str, tmp_path: Path) -> None:
    """Old names of keys, and buffers of frequencies among the tensors."""
    reference = reference_model("phi", **{**SMALL, **VARIANTS[variant]})
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    edit_config(tmp_path, **old_spelling(raw))
    assert "rope_parameters" not in (tmp_path / "config.json").read_text()
    tensors = load_file(tmp_path / "model.safetensors")
    for i in range(2):
        tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    save_file(tensors, tmp_path / "model.safetensors")
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"num_key_value_heads": 3}, "num_attention_heads = 4 .* num_key_value_heads = 3"),
        ({"num_key_value_heads": 0}, "G = 0"),
        ({"hidden_act": "prelu"}, "hidden_act = 'prelu' is not known here"),
        ({"qk_layernorm": 1}, "qk_layernorm = 1, but it must be bool"),
        ({"rope_parameters": None, "partial_rotary_factor": 1.5}, "partial_rotary_factor = 1.5, but"),
        ({"rope_parameters": rope(part=0.8)["rope_parameters"]}, "= 0.8 lets 9 numbers of each head turn"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("phi", **SMALL), tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
