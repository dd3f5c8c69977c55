"""config.json of models with DeepSeek's attention as published, but with smaller sizes: read alike."""

import json
from pathlib import Path
from typing import Any

import pytest
from parity import assert_close, check_hub_file, logits_of, random_ids, reference_model, save

from tinystar_np.loading import load

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "kv_lora_rank": 12,
    "moe_intermediate_size": 12,
    "n_routed_experts": 8,
    "num_attention_heads": 4,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "q_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "vocab_size": 211,
}
# zai-org/GLM-4.7-Flash
GLM_4_7_FLASH = {
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "eos_token_id": 0,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "max_position_embeddings": 202752,
    "model_type": "glm4_moe_lite",
    "n_group": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 0,
    "partial_rotary_factor": 1.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.8,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "transformers_version": "5.0.0rc0",
    **SIZES,
}
# moonshotai/Kimi-K2-Instruct; its code is DeepSeek-V3's
KIMI_K2 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "aux_loss_alpha": 0.001,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 131072,
    "model_type": "kimi_k2",
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 1.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 50000.0,
    "routed_scaling_factor": 2.827,
    "scoring_func": "sigmoid",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.48.3",
    "use_cache": True,
    **SIZES,
}
# deepseek-ai/DeepSeek-V3.2
DEEPSEEK_V3_2 = {
    "architectures": ["DeepseekV32ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "ep_size": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "index_head_dim": 8,
    "index_n_heads": 16,
    "index_topk": 7,
    "initializer_range": 0.02,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v32",
    "moe_layer_freq": 1,
    "n_group": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 2,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.44.2",
    "use_cache": True,
    **SIZES,
}
# moonshotai/Kimi-Linear-48B-A3B-Instruct: layers are counted from 1
KIMI_LINEAR = {
    "architectures": ["KimiLinearForCausalLM"],
    "bos_token_id": 0,
    "dtype": "bfloat16",
    "eos_token_id": 0,
    "first_k_dense_replace": 1,
    "head_dim": 8,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "linear_attn_config": {
        "full_attn_layers": [2],
        "head_dim": 8,
        "kda_layers": [1, 3],
        "num_heads": 3,
        "short_conv_kernel_size": 4,
    },
    "mla_use_nope": True,
    "model_max_length": 1048576,
    "model_type": "kimi_linear",
    "moe_layer_freq": 1,
    "moe_renormalize": True,
    "moe_router_activation_func": "sigmoid",
    "num_expert_group": 1,
    "num_experts": 8,
    "num_experts_per_token": 3,
    "num_nextn_predict_layers": 0,
    "num_shared_experts": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "routed_scaling_factor": 2.446,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "transformers_version": "4.56.2",
    "use_cache": True,
    "use_grouped_topk": True,
    **{key: size for key, size in SIZES.items() if "experts" not in key},
    "q_lora_rank": None,
}


@pytest.mark.parametrize(
    "published", [GLM_4_7_FLASH, DEEPSEEK_V3_2, KIMI_LINEAR], ids=lambda raw: str(raw["model_type"])
)
def test_published(published: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(published, {}, tmp_path)


def test_kimi_k2(tmp_path: Path) -> None:
    """transformers knows no such type; the makers say to write deepseek_v3 in its place."""
    settings = {key: value for key, value in KIMI_K2.items() if key not in ("model_type", "architectures")}
    reference = reference_model("deepseek_v3", **settings)
    save(reference, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(KIMI_K2))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))
