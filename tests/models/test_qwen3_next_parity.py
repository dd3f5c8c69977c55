"""Qwen3-Next against transformers: the delta rule, gated attention, and experts beside a shared one."""

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
from transformers import PreTrainedModel

from tinystar_np.errors import ConfigError
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.loading import load
from tinystar_np.models.qwen3_next import GatedAttention

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 64,
    # Behind the delta rule each head's result is normed. Where a query hardly meets a key there is little to
    # norm, and the usual 1e-6 makes rounding large: transformers' own two forms then differ by 3e-5.
    "rms_norm_eps": 0.01,
}
LINEAR, FULL = "linear_attention", "full_attention"
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "heads_alike": {"linear_num_value_heads": 2, "linear_value_head_dim": 8, "num_key_value_heads": 4},
    "one_key_head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
    "named_layers": {"layer_types": [FULL, LINEAR, FULL, LINEAR], "rms_norm_eps": 0.1},
    "no_delta_net": {"layer_types": [FULL] * 4},
    "no_attention": {"layer_types": [LINEAR] * 4, "linear_conv_kernel_dim": 1},
    "dense_layers": {"decoder_sparse_step": 2, "mlp_only_layers": [1]},
    "not_normed": {"norm_topk_prob": False},
    "attention_bias": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True, "rms_norm_eps": 0.1},
    "usual_epsilon": {"rms_norm_eps": 1e-6},
    "whole_heads": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0}
    },
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "partial_rotary_factor": 0.5,
        }
    },
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
}
CHUNK = 64


def small_model(**config: Any) -> PreTrainedModel:
    """Make a model whose delta nets forget slowly; transformers draws most so that nothing stays."""
    reference = reference_model("qwen3_next", **{**SMALL, **config})
    generator = torch.Generator().manual_seed(5)
    for name, parameter in reference.named_parameters():
        if name.endswith("A_log"):
            parameter.data = torch.randn(parameter.shape, generator=generator) - 2
    return reference


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = small_model(**VARIANTS[variant])
    # transformers' cache looks for the length in a layer of attention.
    greedy = variant != "no_attention"
    tolerance = 1e-4 if variant == "usual_epsilon" else 1e-5
    save(reference, tmp_path)
    cuts = ([1, 63, 4], [65, 3])
    model = check(reference, tmp_path, length=68, cuts=cuts, tolerance=tolerance, greedy=greedy)
    kinds = reference.config.layer_types
    expected = [GatedDeltaNet if kind == LINEAR else GatedAttention for kind in kinds]
    assert [type(block.mixer) for block in model.blocks] == expected


def test_longer_than_two_chunks(tmp_path: Path) -> None:
    reference = small_model()
    model, _ = load(save(reference, tmp_path))
    ids = random_ids(2, 2 * CHUNK + 7)
    assert_close(model(ids), logits_of(reference, ids))


def test_old_spelling(tmp_path: Path) -> None:
    """As the hub has it: no layer is named, an interval is; files have a layer that predicts a token more."""
    reference = small_model(layer_types=[LINEAR, FULL] * 2)
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    save(reference, tmp_path, **old_spelling(raw), layer_types=None, full_attention_interval=2)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "mtp.fc.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    model, _ = load(tmp_path)
    ids = random_ids(2, 40)
    assert_close(model(ids), logits_of(reference, ids))


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    reference = small_model()
    reference.save_pretrained(tmp_path, save_original_format=False)
    assert "model.layers.1.mlp.experts.gate_up_proj" in load_file(tmp_path / "model.safetensors")
    model, _ = load(tmp_path)
    ids = random_ids(2, 20)
    assert_close(model(ids), logits_of(reference, ids))


def test_the_state_of_a_delta_net_does_not_grow(tmp_path: Path) -> None:
    reference = small_model(layer_types=[LINEAR] * 4)
    model, _ = load(save(reference, tmp_path))
    cache = model.new_cache(2)
    S, inputs = 4 * 8 * 12, 3 * (2 * 2 * 8 + 4 * 12)
    heads, token = 4, 4 + 2 * 8 + 4 * 12  # how far S has faded; a token, its keys and its values
    one = 2 * 4 * 4  # rows, layers, bytes
    assert cache.nbytes == one * (inputs + S)
    for new, beside in ((1, heads + token), (70, 0), (1, heads + token)):
        model(random_ids(2, new), cache=cache)
        assert cache.nbytes == one * (inputs + S + beside)
    for _ in range(40):
        model(random_ids(2, 1), cache=cache)
    assert cache.nbytes == one * (inputs + 2 * S + heads + (41 - 2 * MOST) * token)  # two take turns


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": [LINEAR] * 3}, "layer_types names 3 layers, but num_hidden_layers = 4"),
        (
            {"layer_types": [LINEAR] * 3 + ["sliding_attention"]},
            r"layer_types\[3\] = 'sliding_attention' is not known here",
        ),
        ({"layer_types": None, "full_attention_interval": 0}, "full_attention_interval = 0"),
        ({"linear_num_value_heads": 3}, "linear_num_value_heads = 3 cannot be divided among"),
        ({"linear_key_head_dim": 0}, "P = 0"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok = 9 of"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step = 0"),
        ({"hidden_act": "xielu"}, "hidden_act = 'xielu' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    small_model().config.save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
