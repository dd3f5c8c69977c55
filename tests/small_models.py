"""Small random models, one for each way in which tokens reach each other, made once for all tests here."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings
from parity import reference_model, save
from transformers import PreTrainedModel

from tinystar_np.loading import load
from tinystar_np.models import Decoder

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=60)
"""The same cases in every run, no time limit that a slow machine would miss, no cases kept on the disk."""

ATTENTION = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
LINEAR, FULL = "linear_attention", "full_attention"
QWEN3_NEXT = {
    **ATTENTION,
    "num_attention_heads": 4,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": [LINEAR, FULL],
    "rms_norm_eps": 0.01,  # see parity_rows/qwen3_next.py
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
}
DEEPSEEK = {
    **ATTENTION,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 20,
    "first_k_dense_replace": 2,  # no experts
    "kv_lora_rank": 24,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 6,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 3,
}
HYBRID = {
    **ATTENTION,
    "intermediate_size": 20,
    "shared_intermediate_size": 40,
    "num_hidden_layers": 3,
    "layer_types": [LINEAR, FULL, LINEAR],
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "mamba_n_heads": 6,
    "mamba_d_state": 8,
    "position_embedding_type": "rope",
}
DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "learned positions": ("gpt2", {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 1024}),
    "rope, groups": ("llama", ATTENTION),
    "window": ("mistral", {**ATTENTION, "sliding_window": 17}),
    "caps, windows in turns": (
        "gemma2",
        {
            **ATTENTION,
            "head_dim": 12,
            "query_pre_attn_scalar": 8,
            "sliding_window": 17,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
    ),
    "chunks and no positions, in turns": (
        "llama4_text",
        {
            **ATTENTION,
            "head_dim": 8,
            "intermediate_size_mlp": 80,
            "attention_chunk_size": 17,
            "no_rope_layer_interval": 2,
            "floor_scale": 16,
            "moe_layers": [],
        },
    ),
    "alibi": ("bloom", {"hidden_size": 48, "n_layer": 2, "n_head": 8}),
    "one key for all heads, parallel": (
        "falcon",
        {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6},
    ),
    "partial rope": (
        "gpt_neox",
        {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    "latent attention": ("deepseek_v2", DEEPSEEK),
    "difference of maps": ("diffllama", {**ATTENTION, "num_attention_heads": 8, "num_key_value_heads": 4}),
    "wkv": ("rwkv", {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}),
    "mlstm": ("xlstm", {"hidden_size": 48, "num_heads": 4, "num_hidden_layers": 2, "norm_eps": 0.1}),
    "mamba 1": ("mamba", {"hidden_size": 48, "num_hidden_layers": 2, "state_size": 8}),
    "mamba 2": (
        "mamba2",
        {
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_heads": 6,
            "head_dim": 16,
            "n_groups": 2,
            "state_size": 12,
        },
    ),
    "delta rule": ("qwen3_next", {**QWEN3_NEXT, "mlp_only_layers": [0, 1]}),
    "mamba 2 and attention": ("granitemoehybrid", HYBRID),
}
EXPERTS: dict[str, tuple[str, dict[str, Any]]] = {
    "experts in attention": (
        "jetmoe",
        {
            "hidden_size": 48,
            "intermediate_size": 20,
            "num_hidden_layers": 2,
            "num_key_value_heads": 3,
            "kv_channels": 8,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
        },
    ),
    "experts": (
        "mixtral",
        {**ATTENTION, "intermediate_size": 20, "num_local_experts": 5, "num_experts_per_tok": 2},
    ),
    "experts, sinks, window": (
        "gpt_oss",
        {
            **ATTENTION,
            "intermediate_size": 20,
            "head_dim": 8,
            "sliding_window": 17,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
        },
    ),
    "experts, latent attention": ("deepseek_v2", {**DEEPSEEK, "first_k_dense_replace": 0}),
    "experts, delta rule": ("qwen3_next", QWEN3_NEXT),
}


@cache
def small_model(name: str, dtype: str = "float32") -> Decoder:
    """Return the model of that name in ``DENSE`` or ``EXPERTS``."""
    model_type, config = (DENSE | EXPERTS)[name]
    return build(model_type, config, dtype)


def small_reference(name: str) -> PreTrainedModel:
    """Return transformers' model of that name."""
    model_type, config = (DENSE | EXPERTS)[name]
    return reference_model(model_type, **config)


def build(model_type: str, config: dict[str, Any], dtype: str = "float32") -> Decoder:
    """Make a model with every parameter random; its files are gone when it is there, its weights are not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        return load(save(reference_model(model_type, **config), Path(directory)), dtype)[0]
