"""config.json as published models have it, but with smaller sizes: MiniMax and others."""

from pathlib import Path
from typing import Any

import pytest
from parity import check_hub_file

# MiniMaxAI/MiniMax-M2
MINIMAX_M2: dict[str, Any] = {
    "architectures": ["MiniMaxM2ForCausalLM"],
    "attn_type_list": [1, 1],
    "auto_map": {
        "AutoConfig": "configuration_minimax_m2.MiniMaxM2Config",
        "AutoModelForCausalLM": "modeling_minimax_m2.MiniMaxM2ForCausalLM",
    },
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 24,
    "max_position_embeddings": 196608,
    "model_type": "minimax_m2",
    "mtp_transformer_layers": 1,
    "num_attention_heads": 6,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_mtp_modules": 3,
    "qk_norm_type": "per_layer",
    "rms_norm_eps": 1e-06,
    "rope_theta": 5000000,
    "rotary_dim": 8,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.46.1",
    "use_cache": True,
    "use_mtp": True,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 211,
}
# ByteDance-Seed/Seed-OSS-36B-Instruct
SEED_OSS: dict[str, Any] = {
    "architectures": ["SeedOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.1,
    "attention_out_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": 12,
    "hidden_act": "silu",
    "hidden_size": 40,
    "initializer_range": 0.02,
    "intermediate_size": 56,
    "max_position_embeddings": 524288,
    "mlp_bias": False,
    "model_type": "seed_oss",
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 1,
    "residual_dropout": 0.1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"rope_type": "default"},
    "rope_theta": 10000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.55.0",
    "use_cache": True,
    "vocab_size": 211,
}
LEFT_OUT = ...
CASES = [
    pytest.param(MINIMAX_M2, {}, id="minimax_m2"),
    pytest.param(MINIMAX_M2, {"rotary_dim": LEFT_OUT}, id="minimax_m2, whole heads"),
    pytest.param(MINIMAX_M2, {"partial_rotary_factor": 0.25}, id="minimax_m2, both keys"),
    pytest.param(SEED_OSS, {}, id="seed_oss"),
    pytest.param(SEED_OSS, {"rope_scaling": None, "mlp_bias": LEFT_OUT}, id="seed_oss, unscaled"),
]


@pytest.mark.parametrize(("published", "changes"), CASES)
def test_a_published_config(published: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(published, changes, tmp_path)
