"""StableLM against transformers: LayerNorm, parts of heads, both wirings, norms of each head."""

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

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def rope(rope_type: str = "default", part: float = 0.25, **more: Any) -> dict[str, Any]:
    parameters = {"rope_type": rope_type, "rope_theta": 25000.0, "partial_rotary_factor": part, **more}
    return {"rope_parameters": parameters}


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "qkv_bias": {"use_qkv_bias": True},
    "parallel": {"use_parallel_residual": True},
    "norms_of_heads": {"qk_layernorm": True},
    "all_of_it": {
        "use_qkv_bias": True,
        "use_parallel_residual": True,
        "qk_layernorm": True,
        "layer_norm_eps": 0.1,
    },
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu"},
    "whole_heads": rope(part=1.0),
    "linear": rope("linear", part=0.5, factor=4.0),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("stablelm", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=50, cuts=[[1, 2, 46, 1], [20, 1, 1, 28]])
    assert model.context_length is None
    assert model.trained_length == 64
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 60)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_a_quarter_of_each_head_turns_unless_said_otherwise(tmp_path: Path) -> None:
    reference = reference_model("stablelm", **SMALL)
    save(reference, tmp_path, rope_parameters=None)
    model, _ = load(tmp_path)
    assert model.config.rope.rotary_dim == 2
    ids = random_ids(2, 20)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0.0 must be above 0"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor = 1.5, but it must be"),
        ({"qk_layernorm": 1}, "qk_layernorm = 1, but it must be bool"),
        (rope("spiral"), "rope_type = 'spiral' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "stablelm", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_weights_of_another_variant(tmp_path: Path) -> None:
    save(reference_model("stablelm", **SMALL), tmp_path, use_parallel_residual=True)
    with pytest.raises(CheckpointError, match=r"has 'layers.0.post_attention_layernorm.bias'"):
        load(tmp_path)
