"""Qwen3 with experts against transformers: routing, norms of queries and keys, dense layers, windows."""

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
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}
CUTS = ([1, 2, 46, 1], [16, 34], [17, 33], [18, 1, 31])

VARIANTS: dict[str, dict[str, Any]] = {
    "as_it_comes": {},
    "normed": {"norm_topk_prob": True},
    "wide_heads": {"head_dim": 12, "norm_topk_prob": True},
    "every_second_layer": {"num_hidden_layers": 3, "decoder_sparse_step": 2},
    "some_dense": {"mlp_only_layers": [0]},
    "attention_bias": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True},
    "window": {"use_sliding_window": True, "sliding_window": 17},
    "window_unused": {"use_sliding_window": False, "sliding_window": 17},
    "epsilon": {"rms_norm_eps": 0.1},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("qwen3_moe", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=50, cuts=CUTS)
    assert model.trained_length == 32768


@pytest.mark.parametrize("variant", ["normed", "window", "yarn"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    """Files on the hub count ``num_experts``, today's ``num_local_experts``."""
    reference = reference_model("qwen3_moe", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert "num_experts" not in raw
    edit_config(tmp_path, **old_spelling(raw), num_local_experts=None, num_experts=5)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    reference = reference_model("qwen3_moe", **SMALL, mlp_only_layers=[1])
    reference.save_pretrained(tmp_path, save_original_format=False)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_local_experts = 5"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step = 0 must be at least 1"),
        ({"use_sliding_window": True, "sliding_window": 0}, "sliding_window = 0"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
