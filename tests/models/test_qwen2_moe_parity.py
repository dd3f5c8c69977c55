"""Qwen2-MoE against transformers: routing, the shared expert, dense layers between, windows, biases."""

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
from tinystar_np.layers.basic import GatedFeedForward
from tinystar_np.loading import load
from tinystar_np.models.qwen2_moe import RoutedAndShared

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}
CUTS = ([1, 2, 46, 1], [16, 34], [17, 33], [18, 1, 31])
WINDOW = {"use_sliding_window": True, "sliding_window": 17}

VARIANTS: dict[str, dict[str, Any]] = {
    "as_it_comes": {},
    "normed": {"norm_topk_prob": True},
    "one": {"num_experts_per_tok": 1},
    "one_normed": {"num_experts_per_tok": 1, "norm_topk_prob": True},
    "all": {"num_experts_per_tok": 5},
    "every_second_layer": {"decoder_sparse_step": 2},
    "some_dense": {"mlp_only_layers": [0, 2]},
    "every_second_but_dense": {"num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "no_bias": {"qkv_bias": False},
    "tied": {"tie_word_embeddings": True},
    "window": WINDOW,
    "window_in_the_first": {**WINDOW, "max_window_layers": 2},
    "window_unused": {"use_sliding_window": False, "sliding_window": 17},
    "layer_types": {**WINDOW, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    "gelu": {"hidden_act": "gelu_new", "rms_norm_eps": 0.01},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("qwen2_moe", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=50, cuts=CUTS)
    assert model.trained_length == 32768


@pytest.mark.parametrize("variant", ["as_it_comes", "window", "base"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    """The first files know neither ``layer_types`` nor ``qkv_bias``."""
    reference = reference_model("qwen2_moe", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    changes = old_spelling(json.loads((tmp_path / "config.json").read_text()))
    edit_config(tmp_path, **changes, layer_types=None, qkv_bias=None, mlp_only_layers=None)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    reference = reference_model("qwen2_moe", **{**SMALL, "mlp_only_layers": [1]})
    reference.save_pretrained(tmp_path, save_original_format=False)
    model = check(reference, tmp_path, length=50, cuts=())
    layers = [block.feed_forward for block in model.blocks]  # type: ignore[attr-defined]
    assert [type(layer) for layer in layers] == [RoutedAndShared, GatedFeedForward, RoutedAndShared]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_experts = 5"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step = 0 must be at least 1"),
        ({"mlp_only_layers": ["0"]}, r"mlp_only_layers\[0\] = '0', but it must be int"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, but num_hidden_layers = 3"),
        ({"layer_types": ["full_attention"] * 2 + ["round"]}, r"layer_types\[2\] = 'round'"),
        (
            {"layer_types": ["sliding_attention"] * 3},
            "no sliding_window is in use",
        ),
        ({"use_sliding_window": True, "sliding_window": 0}, "sliding_window = 0"),
        ({"shared_expert_intermediate_size": 0}, "C = 0"),
        ({"norm_topk_prob": 1.5}, "norm_topk_prob = 1.5, but it must be bool"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_moe", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
