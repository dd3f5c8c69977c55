"""Configs that contradict themselves or ask for what is not computed here: refused, with the reason.

What any key of any architecture cannot be is in test_bad_models.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from parity_case import FULL, LINEAR, SLIDING, rope
from parity_cases import INERT_OF, ROWS

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import model_class

ROPE = "rope_parameters"
GIVEN: dict[str, dict[str, Any]] = {  # what else a file says, so that the key counts
    "sliding_window": {"use_sliding_window": True, "max_window_layers": 1},
    "layer_types": {"num_hidden_layers": 2},
    ROPE: {"position_embedding_type": "rope", "use_mem_rope": True},
}
GROUP = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 1, "num_experts_per_tok": 1}
NEW = {"new_decoder_architecture": True, "num_kv_heads": 2}
EVERYWHERE: dict[str, tuple[str, Any, str]] = {  # keys of which one is there, its value, what is said
    "heads": ("num_attention_heads n_head n_heads num_heads", 5, "cannot be divided|do not make|is not"),
    "groups": ("num_key_value_heads", 3, "cannot be divided among|num_key_value_heads = 3 is not"),
    "no groups": ("num_key_value_heads", 0, "G = 0|num_key_value_heads = 0"),
    "activation": ("hidden_act hidden_activation activation activation_function", "swoosh", "= 'swoosh' is"),
    "epsilon": ("rms_norm_eps layer_norm_eps layer_norm_epsilon norm_epsilon", 0, "= 0.* must be above 0"),
    "window": ("sliding_window", 0, "sliding_window = 0, but a token sees at least itself"),
    "chunk": ("attention_chunk_size", 0, "attention_chunk_size = 0, but a token sees at least itself"),
    "too few kinds": ("layer_types", [FULL], "layer_types names 1 layers, but num_hidden_layers = "),
    "kinds": ("layer_types", [FULL, "round"], r"layer_types\[.\] = '(round|full_\w+)' is not known here"),
    "kinds in words": ("layer_types", FULL, "layer_types = 'full_attention', but it must be list or null"),
    "kinds of lists": ("layer_types", [FULL, [1]], r"layer_types\[1\] = \[1\], but it must be str"),
    "experts": ("num_experts_per_tok", 99, "num_experts_per_tok = 99 of .* = [0-9]+ cannot be chosen"),
    "no expert": ("num_experts_per_tok", 0, "num_experts_per_tok = 0 of .* = [0-9]+ cannot be chosen"),
    "rotations": (ROPE, {"rope_type": "spiral"}, "rope_type = 'spiral'|outside of the two kinds"),
    "quantised": ("quantization_config", {"bits": 4}, "quantization_config = .* is not implemented"),
}  # fmt: skip
MINE: dict[str, list[tuple[dict[str, Any], str]]] = {
    "bloom": [
        ({"slow_but_exact": True}, "slow_but_exact = True is not implemented"),
        ({"apply_residual_connection_post_layernorm": True}, "layernorm = True is not implemented"),
    ],
    "cohere": [
        ({"logit_scale": "1"}, "logit_scale = '1', but it must be float"),
        ({"use_qk_norm": "no"}, "use_qk_norm = 'no', but it must be"),
    ],
    "dbrx": [
        ({"ffn_config": {"moe_top_k": 5}}, "moe_top_k = 5 of moe_num_experts = 4"),
        ({"ffn_config": {"moe_normalize_expert_weights": 0}}, "weights = 0.0 must be above 0"),
        ({"ffn_config": {"ffn_act_fn": {"name": "swoosh"}}}, "ffn_act_fn.name = 'swoosh' is not known"),
        ({"ffn_config": [1]}, r"ffn_config = \[1\], but it must be an object or null"),
        ({"attn_config": {"clip_qkv": -8}}, "clip_qkv = -8.0 must be above 0"),
        ({"attn_config": {"kv_n_heads": 3}}, "n_heads = 4 cannot be divided among kv_n_heads = 3"),
        ({"attn_config": {"kv_n_heads": "2"}}, "kv_n_heads = '2', but it must be int"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings = True is not implemented"),
    ],
    "deepseek_v2": [
        ({"num_key_value_heads": 2}, "num_key_value_heads = 2 is not num_attention_heads = 4"),
        ({"topk_method": "noaux_tc"}, "topk_method = 'noaux_tc' is not known here"),
        ({**GROUP, "n_group": 3}, "4 cannot be divided among n_group = 3"),
        ({**GROUP, "n_group": None}, "4 cannot be divided among n_group = None"),
        ({**GROUP, "topk_group": 5}, "topk_group = 5 of n_group = 4"),
        ({**GROUP, "num_experts_per_tok": 2}, "_tok = 2 experts are not in topk_group = 1 groups of 1"),
        ({"norm_topk_prob": True}, "norm_topk_prob = True is not implemented"),
        ({"scoring_func": "sigmoid"}, "scoring_func = 'sigmoid' is not implemented"),
        ({"moe_layer_freq": 0}, "moe_layer_freq = 0"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace = -1"),
        ({"qk_rope_head_dim": 7}, "qk_rope_head_dim = 7 makes no pairs"),
        ({"kv_lora_rank": 0}, "R = 0"),
        ({ROPE: rope("yarn", factor=4.0, mscale_all_dim="1")}, "mscale_all_dim = '1'"),
    ],
    "deepseek_v3": [
        ({"num_experts_per_tok": 5}, "_tok = 5 experts are not in topk_group = 2 groups of 2"),
        ({"topk_method": "greedy"}, "topk_method = 'greedy' is not noaux_tc"),
        ({"n_group": 3}, "8 cannot be divided among n_group = 3"),
        ({"n_group": 8}, "n_group = 8 groups of n_routed_experts = 8 have no two"),
        ({"topk_group": 5}, "topk_group = 5 of n_group = 4"),
        ({"scoring_func": "softmax"}, "scoring_func = 'softmax' is not implemented"),
        ({"num_key_value_heads": 2}, "num_key_value_heads = 2 is not num_attention_heads = 4"),
    ],
    "falcon": [
        ({"hidden_size": 28}, "7 numbers of each head"),
        ({**NEW, "num_kv_heads": 3}, "num_attention_heads = 4 .* num_kv_heads = 3"),
        ({**NEW, "num_kv_heads": 0}, "G = 0"),
        ({**NEW, "parallel_attn": False}, "parallel_attn = False, but new_decoder_architecture asks"),
        ({**NEW, "num_ln_in_parallel_attn": 3}, "attn = 3, but it must be 1, 2 or null"),
        ({"num_ln_in_parallel_attn": 2}, "attn = 2, .*new_decoder_architecture = False"),
        ({"multi_query": False, "num_kv_heads": 2}, "num_kv_heads = 2, but multi_query = False"),
        ({"alibi": "yes"}, "alibi = 'yes', but it must be bool"),
        ({"apply_residual_connection_post_layernorm": True}, "layernorm = True is not implemented"),
    ],
    "falcon_h1": [
        ({"mamba_n_heads": 5}, "mamba_n_heads = 5 heads of mamba_d_head = auto do not make 64 channels"),
        ({"mamba_d_head": 9}, "mamba_n_heads = 4 heads of mamba_d_head = 9 do not make 64 channels"),
        ({"mamba_d_head": "wide"}, "mamba_d_head = 'wide', but it must be a whole number or 'auto'"),
        ({"mamba_n_groups": 3}, "mamba_n_heads = 4 cannot be divided among mamba_n_groups = 3"),
        ({"mamba_n_groups": 0}, "U = 0"),
        ({"mamba_n_heads": 0}, "M = 0"),
        ({"mamba_d_conv": 0}, "W = 0"),
        ({"mamba_d_state": 0}, "N = 0"),
        ({"time_step_limit": [0.5, 0.1]}, r"time_step_limit = \[0.5, 0.1\], but it must be two numbers"),
        ({"ssm_multipliers": [1, 2, 3]}, r"ssm_multipliers = \[1, 2, 3\], but it must be 5 numbers"),
        ({"ssm_multipliers": 2.0}, "ssm_multipliers = 2.0, but it must be list"),
        ({"mlp_multipliers": []}, r"mlp_multipliers = \[\], but it must be 2 numbers"),
        ({"mlp_multipliers": [1.0, "2"]}, r"mlp_multipliers\[1\] = '2', but it must be float"),
        ({"key_multiplier": None}, "key_multiplier = None, but it must be float"),
        ({"lm_head_multiplier": 0}, "lm_head_multiplier = 0"),
        ({"mamba_use_mlp": False}, "mamba_use_mlp = False is not implemented"),
        ({"attn_layer_indices": [1]}, r"attn_layer_indices = \[1\] is not implemented"),
        ({"head_dim": 3}, "head_dim = 3"),
    ],
    "gemma": [
        ({"hidden_activation": "relu"}, "hidden_activation = 'relu' is not implemented"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not implemented"),
    ],
    "gemma2": [
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0.0 must be above 0"),
        ({"attn_logit_softcapping": 0}, "attn_logit_softcapping = 0.0 must be above 0"),
        ({"final_logit_softcapping": -30}, "final_logit_softcapping = -30.0 must be above 0"),
        ({"sliding_window": None}, "no sliding_window is in use"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not implemented"),
    ],
    "gemma3_text": [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 is not implemented"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not implemented"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern = 0 must be at least 1"),
        ({"sliding_window": None}, "no sliding_window is in use"),
        ({ROPE: None, "rope_local_base_freq": -1}, "rope_local_base_freq = -1.0 must be above 0"),
        ({ROPE: None, "rope_theta": 0}, "rope_theta = 0"),
        ({ROPE: rope(rope_theta=5000.0)}, "rope_parameters has .*5000.* outside of the two kinds"),
        ({ROPE: {SLIDING: {"rope_type": "spiral"}}}, "sliding_attention.rope_type = 'spiral'"),
        ({"rope_scaling": rope("linear", factor=8.0)}, "rope_scaling and rope_parameters are both there"),
        ({"final_logit_softcapping": 0}, "final_logit_softcapping = 0.0 must be above 0"),
    ],
    "gpt_neo": [
        ({"window_size": 0}, "window_size = 0 must be at least 1"),
        ({"attention_layers": ["global"]}, "for 1 layers, but num_hidden_layers = 2"),
        ({"attention_layers": ["global", "near"]}, r"has \['near'\], but a layer is global or local"),
        ({"attention_types": ["global"]}, r"has 'global', but wants \[\[kind, …\], how often\]"),
        ({"attention_types": [[["global"], 10**9]]}, r"_types has \[\['global'\], 1000000000\], but"),
        ({"attention_types": "global"}, "attention_types = 'global', but it must be list or null"),
    ],
    "gpt_neox": [
        ({"use_parallel_residual": "yes"}, "use_parallel_residual = 'yes', but it must be bool"),
        ({ROPE: None, "rotary_pct": 1.5}, "partial_rotary_factor = 1.5, but it must be"),
    ],
    "gpt_oss": [
        ({"quantization_config": {"quant_method": "mxfp8"}}, "quantization_config = .*mxfp8.* is not"),
        ({"sliding_window": None}, r"layer_types\[0\] = 'sliding_attention', but no sliding_window is in"),
        ({"swiglu_limit": 0}, "swiglu_limit = 0.0 must be above 0"),
    ],
    "gptj": [
        ({"rotary_dim": 18}, "rotary_dim = 18, but it must be even, from 2 to the width of a head, 8"),
        ({"rotary_dim": 7}, "rotary_dim = 7, but"),
        ({"rotary_dim": 0}, "rotary_dim = 0, but"),
        ({"rotary_dim": "8"}, "rotary_dim = '8', but it must be int"),
    ],
    "granite": [
        ({"logits_scaling": 0}, "logits_scaling = 0"),
        ({"embedding_multiplier": "12"}, "embedding_multiplier = '12', but it must be float"),
    ],
    "granitemoe": [({"num_local_experts": 0}, "E = 0")],
    "granitemoehybrid": [
        ({"position_embedding_type": "alibi"}, "position_embedding_type = 'alibi' is not known here"),
        ({"mamba_n_heads": 5}, "mamba_n_heads = 5 heads of mamba_d_head = auto do not make mamba_expand = 2"),
        ({"mamba_d_head": 8}, "mamba_n_heads = 4 heads of mamba_d_head = 8 do not make mamba_expand = 2"),
        ({"mamba_d_head": "wide"}, "mamba_d_head = 'wide', but it must be a whole number or 'auto'"),
        ({"mamba_n_groups": 3}, "mamba_n_heads = 4 cannot be divided among mamba_n_groups = 3"),
        ({"mamba_n_groups": 0}, "U = 0"),
        ({"mamba_d_conv": 0}, "W = 0"),
        ({"time_step_limit": [0.1]}, r"time_step_limit = \[0.1\], but it must be two numbers"),
        ({"time_step_limit": [0.5, 0.1]}, r"time_step_limit = \[0.5, 0.1\], but it must be two numbers"),
        ({"time_step_limit": ["0", 1]}, "time_step_limit"),
        ({"time_step_limit": None}, "time_step_limit = None"),
        ({"num_local_experts": -1}, "E = -1"),
        ({"logits_scaling": 0}, "logits_scaling = 0"),
        ({"normalization_function": "layernorm"}, "function = 'layernorm' is not implemented"),
        ({"position_embedding_type": "rope", "head_dim": 3}, "head_dim = 3"),
    ],
    "llama": [
        ({"head_dim": 7}, "7"),
        ({"head_dim": 0}, "K = 0"),
        ({ROPE: None, "rope_scaling": {"type": "spiral", "factor": 2.0}}, "rope_scaling.type = 'spiral' is"),
        ({ROPE: None, "rope_scaling": {"type": "linear", "factor": 0.5}}, "rope_scaling.factor = 0.5"),
        ({ROPE: None, "rope_scaling": "linear"}, "rope_scaling = 'linear'"),
        ({"attention_bias": 1}, "attention_bias = 1"),
    ],
    "llama4_text": [
        ({"attention_chunk_size": None}, "'chunked_attention', but no attention_chunk_size is in use"),
        ({"layer_types": [SLIDING] * 2}, r"layer_types\[0\] = 'sliding_attention' is not known"),
        ({"no_rope_layers": [1]}, r"no_rope_layers = \[1\], but it must be 0 or 1 for each of .* = 2"),
        ({"no_rope_layers": False}, "no_rope_layers = False, but it must be"),
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval = 0 must be at least 1"),
        ({"interleave_moe_layer_step": 0}, "interleave_moe_layer_step = 0 must be at least 1"),
        ({"moe_layers": [0.5]}, r"moe_layers\[0\] = 0.5, but it must be int"),
        ({"floor_scale": 0}, "floor_scale = 0 must be at least 1"),
        ({"attn_temperature_tuning": "on"}, "attn_temperature_tuning = 'on', but it must be bool or int"),
        ({ROPE: rope("llama3", factor=8.0, low_freq_factor=5.0, high_freq_factor=4.0,
                     original_max_position_embeddings=16)}, "must be at least low_freq_factor = 5.0"),
    ],
    "mamba": [
        ({"state_size": 0}, "N = 0"),
        ({"conv_kernel": 0}, "W = 0"),
        ({"expand": 0, "intermediate_size": None}, "F = 0"),
        ({"expand": 1.5}, "expand = 1.5, but it must be int"),
        ({"time_step_rank": "wide"}, "time_step_rank = 'wide', but it must be a number or \"auto\""),
        ({"time_step_rank": 0}, "R = 0"),
        ({"use_bias": "yes"}, "use_bias = 'yes', but it must be bool"),
        ({"rms_norm": False}, "rms_norm = False is not implemented"),
    ],
    "mamba2": [
        ({"num_heads": 8}, "num_heads = 8 of head_dim = 16 make 128 channels, but expand = 2 .* makes 64"),
        ({"head_dim": 8}, "head_dim = 8"),
        ({"n_groups": 3}, "num_heads = 4 cannot be divided among n_groups = 3"),
        ({"n_groups": 0}, "G = 0"),
        ({"state_size": 0}, "N = 0"),
        ({"conv_kernel": -1}, "W = -1"),
        ({"time_step_limit": [0.1, 0.01]}, r"time_step_limit = \[0.1, 0.01\], but it must be two numbers"),
        ({"time_step_limit": [0.1]}, r"time_step_limit = \[0.1\]"),
        ({"time_step_limit": [0, float("nan")]}, r"time_step_limit\[1\] = nan"),
        ({"time_step_limit": [-1.0, 1.0]}, r"time_step_limit = \[-1.0, 1.0\]"),
        ({"time_step_limit": ["low", "high"]}, r"time_step_limit\[0\] = 'low', but it must be float"),
        ({"time_step_limit": 0.1}, "time_step_limit = 0.1, but it must be list"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon = -1e-05 must be above 0"),
        ({"rms_norm": False}, "rms_norm = False is not implemented"),
    ],
    "mixtral": [
        ({"num_local_experts": 0}, "E = 0"),
        ({"num_local_experts": "8"}, "num_local_experts = '8', but it must be int"),
    ],
    "mpt": [
        ({"no_bias": False}, "no_bias = False is not implemented"),
        ({"logit_scale": 0.5}, "logit_scale = 0.5 is not implemented"),
        ({"norm_type": "rmsnorm"}, "norm_type = 'rmsnorm' is not implemented"),
        ({"expansion_ratio": 2}, "expansion_ratio = 2 is not implemented"),
        ({"attn_config": {"qk_ln": True}}, "attn_config.qk_ln = True is not implemented; False is"),
        ({"attn_config": {"alibi": False}}, "attn_config.alibi = False is not implemented"),
        ({"attn_config": {"alibi_bias_max": 16}}, "attn_config.alibi_bias_max = 16 is not implemented"),
        ({"attn_config": {"prefix_lm": True}}, "attn_config.prefix_lm = True is not implemented"),
        ({"attn_config": {"attn_type": "multiquery_attention"}}, "'multiquery_attention' is not implemented"),
        ({"attn_config": {"clip_qkv": "6"}}, "attn_config.clip_qkv = '6', but it must be null or a number"),
        ({"attn_config": {"clip_qkv": -6}}, "attn_config.clip_qkv = -6, but"),
        ({"attn_config": {"softmax_scale": 10**400}}, "attn_config.softmax_scale = 1000.* but"),
        ({"attn_config": {"softmax_scale": True}}, "attn_config.softmax_scale = True, but"),
        ({"attn_config": [1]}, r"attn_config = \[1\], but it must be an object or null"),
    ],
    "olmo": [
        ({"clip_qkv": 0}, "clip_qkv = 0.0 must be above 0"),
        ({"clip_qkv": "8"}, "clip_qkv = '8', but it must be float or null"),
    ],
    "olmoe": [
        ({"clip_qkv": 0}, "clip_qkv = 0.0 must be above 0"),
        ({"clip_qkv": "8"}, "clip_qkv = '8', but it must be float or null"),
    ],
    "phi": [
        ({"qk_layernorm": 1}, "qk_layernorm = 1, but it must be bool"),
        ({ROPE: None, "partial_rotary_factor": 1.5}, "partial_rotary_factor = 1.5, but"),
        ({"hidden_size": 48, ROPE: rope(partial_rotary_factor=0.8)}, "= 0.8 rotates 9 numbers of each head"),
    ],
    "phi3": [
        ({ROPE: rope("linear", factor=2.0)}, "rope_type = 'linear', but Phi-3 knows default and longrope"),
        ({ROPE: rope("longrope", short_factor=[1.0] * 5, long_factor=[1.0] * 5)},
         r"short_factor = .* but it must be a list of 4 numbers"),
        ({ROPE: rope("yarn", factor=2.0)}, "rope_parameters.short_factor = None"),
        ({ROPE: rope("su")}, "rope_parameters.short_factor = None"),
        ({"partial_rotary_factor": 1.5, ROPE: None}, "partial_rotary_factor = 1.5, but it must be"),
    ],
    "qwen2": [
        ({"layer_types": [SLIDING, FULL]}, r"\[0\] = 'sliding_attention', but no sliding_window is in use"),
        ({"use_sliding_window": 1}, "use_sliding_window = 1, but it must be bool"),
    ],
    "qwen2_moe": [
        ({"decoder_sparse_step": 0}, "decoder_sparse_step = 0 must be at least 1"),
        ({"mlp_only_layers": ["0"]}, r"mlp_only_layers\[0\] = '0', but it must be int"),
        ({"layer_types": [SLIDING] * 3}, "no sliding_window is in use"),
        ({"shared_expert_intermediate_size": 0}, "C = 0"),
        ({"norm_topk_prob": 1.5}, "norm_topk_prob = 1.5, but it must be bool"),
    ],
    "qwen3": [
        ({"layer_types": [SLIDING, FULL]}, r"\[0\] = 'sliding_attention', but no sliding_window is in use"),
        ({"use_sliding_window": 1}, "use_sliding_window = 1, but it must be bool"),
    ],
    "qwen3_moe": [({"decoder_sparse_step": 0}, "decoder_sparse_step = 0 must be at least 1")],
    "qwen3_next": [
        ({"layer_types": [LINEAR, SLIDING]}, r"layer_types\[1\] = 'sliding_attention' is not known here"),
        ({"full_attention_interval": 0}, "full_attention_interval = 0"),
        ({"linear_num_value_heads": 3}, "linear_num_value_heads = 3 cannot be divided among"),
        ({"linear_key_head_dim": 0}, "P = 0"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step = 0"),
    ],
    "ministral3": [
        ({ROPE: rope("yarn", factor=4.0)}, "rope_parameters.llama_4_scaling_beta is missing; it must be a"),
        (
            {ROPE: rope("yarn", factor=4.0, llama_4_scaling_beta="much")},
            "rope_parameters.llama_4_scaling_beta = 'much', but it must be a number",
        ),
        (
            {ROPE: rope(llama_4_scaling_beta=0.1)},
            "rope_parameters.original_max_position_embeddings is missing; it must be a whole number",
        ),
        (
            {ROPE: rope(llama_4_scaling_beta=0.1, original_max_position_embeddings=0)},
            "original_max_position_embeddings = 0, but it must be a whole number of tokens",
        ),
    ],
    "smollm3": [
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval = 0 must be at least 1"),
        ({"no_rope_layers": [1]}, r"no_rope_layers = \[1\], but it must be 0 or 1 for each of .* = 2"),
        ({"no_rope_layers": [1, 2]}, r"no_rope_layers = \[1, 2\], but"),
        ({"layer_types": [FULL, SLIDING]}, r"\[1\] = 'sliding_attention', but no sliding_window is in use"),
    ],
    "stablelm": [
        ({ROPE: None, "partial_rotary_factor": 1.5}, "partial_rotary_factor = 1.5, but it must be"),
        ({"qk_layernorm": 1}, "qk_layernorm = 1, but it must be bool"),
    ],
    "starcoder2": [({"use_bias": "yes"}, "use_bias = 'yes', but it must be bool")],
}  # fmt: skip


def refused(model_type: str, changes: dict[str, Any], message: str) -> None:
    raw = {"model_type": model_type, **ROWS[model_type].smallest, **changes}
    with pytest.raises(ConfigError, match=message):
        model_class(model_type).Config.from_dict(raw)


@pytest.mark.parametrize("fault", EVERYWHERE)
@pytest.mark.parametrize("model_type", ROWS)
def test_of_every_architecture(model_type: str, fault: str) -> None:
    spellings, value, message = EVERYWHERE[fault]
    known = {*ROWS[model_type].defaults, "quantization_config"} - {*model_class(model_type).Config.REFUSED}
    known -= {key for key in known if f"{model_type}.{key}" in INERT_OF}
    if not known & {*EVERYWHERE["heads"][0].split()}:  # any number of keys makes its own number of queries
        known -= {*EVERYWHERE["groups"][0].split()} if fault == "groups" else set()
    for key in spellings.split():
        if key in known:
            refused(model_type, {**GIVEN.get(key, {}), key: value}, message)


@pytest.mark.parametrize(
    ("model_type", "changes", "message"), [(name, *row) for name, rows in MINE.items() for row in rows]
)
def test_of_its_own(model_type: str, changes: dict[str, Any], message: str) -> None:
    refused(model_type, changes, message)


@pytest.mark.parametrize("model_type", ROWS)
def test_before_any_weight_is_read(model_type: str, tmp_path: Path) -> None:
    """There is none."""
    raw = {"model_type": model_type, **ROWS[model_type].smallest, "quantization_config": {"bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="quantization_config"):
        load(tmp_path)
