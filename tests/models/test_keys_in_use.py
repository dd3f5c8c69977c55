"""Keys of layers that a model has none of may say anything; and a key has one value, under whatever name."""

import json
from pathlib import Path
from typing import Any

import pytest
from parity import reference_model, save
from switches import Trial, small, trial

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import model_class

FULL, LINEAR = "full_attention", "linear_attention"
NO_EXPERTS = {"num_experts": 0}
ONLY_EXPERTS = {"first_k_dense_replace": 0}
NO_USE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [  # (architecture, variant, what has no use)
    ("qwen2_moe", NO_EXPERTS, {"moe_intermediate_size": 0, "shared_expert_intermediate_size": 0}),
    ("qwen2_moe", NO_EXPERTS, {"decoder_sparse_step": 0, "num_experts_per_tok": 0}),
    ("qwen2_moe", {"mlp_only_layers": [0, 1, 2]}, {"moe_intermediate_size": 0, "decoder_sparse_step": 0}),
    ("qwen2_moe", {}, {"intermediate_size": 0, "num_local_experts": 0}),
    ("qwen3_moe", NO_EXPERTS, {"moe_intermediate_size": 0, "shared_expert_intermediate_size": 0}),
    ("qwen3_moe", {"mlp_only_layers": [0, 1]}, {"num_experts_per_tok": 0, "decoder_sparse_step": 0}),
    ("qwen3_moe", {}, {"intermediate_size": 0, "shared_expert_intermediate_size": 0, "qkv_bias": False}),
    ("qwen3_next", NO_EXPERTS, {"moe_intermediate_size": 0, "shared_expert_intermediate_size": 0}),
    ("qwen3_next", {"layer_types": [FULL, FULL]}, {"linear_num_value_heads": 3, "linear_conv_kernel_dim": 0}),
    ("qwen3_next", {"layer_types": [FULL, FULL]}, {"full_attention_interval": None}),
    ("granitemoehybrid", {"num_local_experts": 0}, {"intermediate_size": 0, "num_experts_per_tok": None}),
    ("granitemoehybrid", {"layer_types": [FULL, FULL]}, {"mamba_d_state": 0, "mamba_d_conv": 0}),
    ("granitemoehybrid", {}, {"mamba_proj_bias": None}),
    ("deepseek_v2", {"first_k_dense_replace": 2}, {"moe_intermediate_size": 0, "n_routed_experts": 0}),
    ("deepseek_v2", {"first_k_dense_replace": 2}, {"num_experts_per_tok": None, "topk_method": None}),
    ("deepseek_v3", {"first_k_dense_replace": 2}, {"n_shared_experts": 0, "n_group": 0, "topk_group": 0}),
    ("deepseek_v3", ONLY_EXPERTS, {"intermediate_size": 0, "topk_method": None, "scoring_func": None}),
    ("llama4_text", {"moe_layers": [0]}, {"interleave_moe_layer_step": 0}),
    ("llama4_text", {"no_rope_layers": [1, 1]}, {"floor_scale": 0}),
    ("llama4_text", {"attn_temperature_tuning": False}, {"floor_scale": 0}),
    ("gemma2", {"layer_types": [FULL, FULL]}, {"sliding_window": 0}),
    ("gemma3_text", {"layer_types": [FULL, FULL]}, {"sliding_window": 0, "sliding_window_pattern": None}),
    ("gpt_oss", {"layer_types": [FULL, FULL]}, {"sliding_window": 0}),
    ("gpt_neo", {"attention_types": [[["global"], 2]]}, {"window_size": 0}),
    ("smollm3", {"no_rope_layers": [0, 1]}, {"no_rope_layer_interval": 0, "sliding_window": 0}),
    ("falcon", {}, {"alibi": None, "bias": None, "new_decoder_architecture": None}),
    ("falcon", {"new_decoder_architecture": True}, {"multi_query": None}),
    ("falcon_h1", {}, {"mamba_rms_norm": None, "mamba_proj_bias": None, "projectors_bias": None}),
    # Keys that other architectures have, and ours had under these names as well.
    ("dbrx", {}, {"moe_top_k": 1, "clip_qkv": 0.1, "kv_n_heads": 3, "ffn_hidden_size": 0}),
    ("gpt_neo", {}, {"layer_norm_eps": 0.5, "hidden_act": "relu"}),
    ("gptj", {}, {"layer_norm_eps": 0.5, "hidden_act": "relu", "intermediate_size": 7}),
    ("mpt", {}, {"layer_norm_eps": 0.5, "hidden_act": "relu", "max_position_embeddings": 0}),
    ("bloom", {}, {"seq_length": None, "bias": False, "n_head_kv": 2, "activation": "relu"}),
    ("mamba", {}, {"rms_norm": None}),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "variant", "odd"), NO_USE)
def test_what_no_layer_uses_is_not_checked(
    model_type: str, variant: dict[str, Any], odd: dict[str, Any]
) -> None:
    before = {**small(model_type), **variant}
    theirs = Trial(model_type, {**before, **odd})
    assert theirs.computes_as(trial(model_type, before))
    theirs.check_ours(trial(model_type, before))


IN_USE: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3_moe", {"moe_intermediate_size": 0}, "moe_intermediate_size = 0 makes M = 0"),
    ("qwen3_moe", {"num_experts": 0, "intermediate_size": 0}, "intermediate_size = 0 makes F = 0"),
    ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step = 0 must be at least 1"),
    ("qwen2_moe", {"shared_expert_intermediate_size": 0, "qkv_bias": False}, "^config.json: shared"),
    ("mixtral", {"num_local_experts": 0}, "num_local_experts = 0 makes E = 0"),
    ("olmoe", {"num_experts": 0}, "In this file num_local_experts is num_experts"),
    ("granitemoe", {"num_local_experts": 0}, "num_local_experts = 0 makes E = 0"),
    ("qwen3_next", {"linear_num_key_heads": 0}, "linear_num_key_heads = 0 makes X = 0"),
    ("granitemoehybrid", {"num_experts_per_tok": None}, "num_experts_per_tok = None of num_local"),
    ("gemma3_text", {"sliding_window_pattern": None}, "sliding_window_pattern = None must be at least 1"),
    ("gpt_neo", {"window_size": 0}, "window_size = 0 must be at least 1"),
    ("llama4_text", {"floor_scale": 0}, "floor_scale = 0 must be at least 1"),
    ("deepseek_v3", {"head_dim": 6}, "head_dim = 6 is not qk_rope_head_dim = 4"),
    ("gpt_neox", {"head_dim": 6}, "4 heads of head_dim = 6 do not make hidden_size = 32"),
    ("mpt", {"max_seq_len": 0}, "max_seq_len = 0 makes C = 0; it must"),
    ("llama", {"max_position_embeddings": 0}, "max_position_embeddings = 0 makes texts of 0 tokens"),
    ("llama", {"hidden_size": 0, "attention_bias": False}, "^config.json: hidden_size = 0 makes D = 0"),
    ("gpt2", {"n_head": 4, "num_attention_heads": 2}, "n_head = 4 and num_attention_heads = 2, but"),
    ("olmoe", {"num_experts": 4, "num_local_experts": 8}, "num_experts = 4 and num_local_experts = 8"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "changes", "message"), IN_USE)
def test_what_is_used_is_checked(model_type: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_class(model_type).Config.from_dict({**small(model_type), **changes})


def test_two_spellings_that_agree() -> None:
    config_class, raw = model_class("gpt2").Config, small("gpt2")
    assert config_class.from_dict({**raw, "num_attention_heads": 4}) == config_class.from_dict(raw)
    assert config_class.from_dict({**raw, "num_hidden_layers": None}) == config_class.from_dict(raw)


def test_qwen3_coder_as_published(tmp_path: Path) -> None:
    """Its config.json has keys of Qwen2-MoE, of which one is 0 and one is equal to it."""
    reference = reference_model("qwen3_moe", **small("qwen3_moe"))
    save(reference, tmp_path)
    plain = load(tmp_path)[0]([1, 2, 3, 4])
    raw = json.loads((tmp_path / "config.json").read_text())
    raw |= {"shared_expert_intermediate_size": 0, "qkv_bias": False, "use_qk_norm": True}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert (load(tmp_path)[0]([1, 2, 3, 4]) == plain).all()
