"""DeepSeek-V2 against transformers: latent attention, its scaling, and experts in groups."""

import json
from collections.abc import Callable
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
    randomise,
    reference_model,
)
from parity import save as save_reference
from transformers import PreTrainedModel
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2MLP

from tinystar_np.errors import ConfigError
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 12,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
}
GROUPS = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
CUTS = ([1, 2, 19, 1, 17], [30, 10])
VARIANTS: dict[str, dict[str, Any]] = {
    "lite": {"rope_parameters": YARN},
    "full": {"q_lora_rank": 20, "rope_parameters": YARN, "routed_scaling_factor": 16.0, **GROUPS},
    "bare": {"n_group": 1, "topk_group": 1},
    "one_group": {**GROUPS, "topk_group": 1, "routed_scaling_factor": 2.5},
    "biases": {"attention_bias": True, "mlp_bias": True, "q_lora_rank": 20},
    "biases_lite": {"attention_bias": True},
    "mscale": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.4}},
    "no_mscale": {"rope_parameters": {k: v for k, v in YARN.items() if "mscale" not in k}},
    "linear": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0, "mscale_all_dim": 0.5}
    },
    "all_experts": {"first_k_dense_replace": 0, "n_shared_experts": 1, "tie_word_embeddings": True},
    "all_dense": {"first_k_dense_replace": 3, "hidden_act": "gelu_pytorch_tanh"},
    "epsilon": {"rms_norm_eps": 0.1, "q_lora_rank": 20},  # which is not that of the norms inside attention
}


def save(reference: PreTrainedModel, directory: Path, **changes: Any) -> Path:
    """Save with some keys changed; None removes one, but a rank that is null stays so: it has a meaning."""
    save_reference(reference, directory, **changes)
    return keep_null(directory) if reference.config.q_lora_rank is None else directory


def keep_null(directory: Path) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "q_lora_rank": None}))
    return directory


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("deepseek_v2", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=40, cuts=CUTS)
    assert model.trained_length == 64
    assert isinstance(model.blocks[0].attention, LatentAttention)
    cache = model.new_cache(capacity=10)
    assert cache.states[0].arrays(10)["keys"].shape == (1, 1, 10, 24 + 8)
    assert cache.nbytes == 3 * 10 * (24 + 8) * 4  # layers, tokens, latent and rotated key, float32


@pytest.mark.parametrize("variant", ["lite", "full", "mscale", "linear"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    """As the hub has it: keys of DeepSeek's own code, which say what is so anyway."""
    reference = reference_model("deepseek_v2", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    theirs = {"scoring_func": "softmax", "moe_layer_freq": 1, "ep_size": 1, "seq_aux": True}
    save(reference, tmp_path, **old_spelling(raw), **theirs, head_dim=None)
    assert "rope_parameters" not in (tmp_path / "config.json").read_text()
    model, _ = load(tmp_path)
    ids = random_ids(2, 40)
    assert_close(model(ids), logits_of(reference, ids))


def test_both_ways_to_store_experts(tmp_path: Path) -> None:
    """Three matrices for each expert, or one tensor for all: the same arrays."""
    reference = reference_model("deepseek_v2", **SMALL)
    ids = random_ids(2, 20)
    for original in (True, False):
        directory = tmp_path / str(original)
        reference.save_pretrained(directory, save_original_format=original)
        model, _ = load(directory)
        fused = b"experts.gate_up_proj" in (directory / "model.safetensors").read_bytes()
        assert fused is not original
        assert_close(model(ids), logits_of(reference, ids))


def test_layers_with_experts_now_and_then(tmp_path: Path) -> None:
    """A key of DeepSeek's own code that transformers does not read: its reference is put together here."""
    reference = reference_model("deepseek_v2", **{**SMALL, "num_hidden_layers": 5})
    for i in (1, 3):
        reference.model.layers[i].mlp = DeepseekV2MLP(reference.config)
    randomise(reference)
    check(reference, save(reference, tmp_path, moe_layer_freq=2), length=40, cuts=CUTS, greedy=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 2}, "num_key_value_heads = 2 is not num_attention_heads = 4"),
        ({"num_experts_per_tok": 13}, "num_experts_per_tok = 13 of n_routed_experts = 12"),
        ({"num_experts_per_tok": 0}, "num_experts_per_tok = 0 of n_routed_experts = 12"),
        ({"topk_method": "noaux_tc"}, "topk_method = 'noaux_tc' is not known here"),
        ({**GROUPS, "n_group": 5}, "12 cannot be divided among n_group = 5"),
        ({**GROUPS, "n_group": None}, "12 cannot be divided among n_group = None"),
        ({**GROUPS, "topk_group": 5}, "topk_group = 5 of n_group = 4"),
        (
            {**GROUPS, "topk_group": 1, "num_experts_per_tok": 4},
            "num_experts_per_tok = 4 experts are not in topk_group = 1 groups of 3",
        ),
        ({"norm_topk_prob": True}, "norm_topk_prob = True is not implemented"),
        ({"scoring_func": "sigmoid"}, "scoring_func = 'sigmoid' is not implemented"),
        ({"moe_layer_freq": 0}, "moe_layer_freq = 0"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace = -1"),
        ({"qk_rope_head_dim": 7}, "qk_rope_head_dim = 7 makes no pairs"),
        ({"kv_lora_rank": 0}, "R = 0"),
        ({"hidden_act": "xielu"}, "hidden_act = 'xielu' is not known here"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps = 0.0 must be above 0"),
        ({"rope_parameters": None, "rope_scaling": {**YARN, "mscale_all_dim": "1"}}, "mscale_all_dim = '1'"),
    ],
)
def test_bad_configs(
    changes: dict[str, Any], message: str, tmp_path: Path, config_without_weights: Callable[..., Path]
) -> None:
    """Refused before any weight is read: there is none."""
    with pytest.raises(ConfigError, match=message):
        load(config_without_weights(tmp_path, **changes))


@pytest.fixture(scope="module")
def config_without_weights() -> Callable[..., Path]:
    """Write the small model's config with changes, and an empty file of weights."""
    config = reference_model("deepseek_v2", **SMALL).config

    def write(directory: Path, **changes: Any) -> Path:
        config.save_pretrained(directory)
        edit_config(directory, **changes)
        keep_null(directory)
        (directory / "model.safetensors").write_bytes(b"")
        return directory

    return write
