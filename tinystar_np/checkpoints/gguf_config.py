"""From the metadata of a GGUF file to what its config.json says.

For each architecture stand here: transformers' name of it, what its keys are called there, what holds for all
of its models and needs no key, and functions for what follows from several keys or from tensors
(gguf_facts.py). A key that none of them reads is refused, unless it says nothing (gguf_keys.py).

Source: conversion/*.py, and ``load_arch_hparams`` of src/models/*.cpp, of https://github.com/ggml-org/llama.cpp.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tinystar_np.checkpoints import gguf_facts as facts
from tinystar_np.checkpoints.gguf_keys import ModelKeys
from tinystar_np.checkpoints.gguf_names import NAMES, Names
from tinystar_np.checkpoints.gguf_undo import Heads
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.errors import ConfigError


class Architecture(NamedTuple):
    """How to read the metadata of an architecture.

    model_type  transformers' name
    keys        {the file's key: that of config.json}; a missing one is left out
    says        what config.json says besides, of every model
    more        functions that return further keys of config.json
    """

    model_type: str
    keys: Mapping[str, str]
    says: Mapping[str, object] = {}
    more: tuple[Callable[[ModelKeys], JsonObject], ...] = ()


# What is alike in most architectures.

SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
LAYER = {"attention.layer_norm_epsilon": "layer_norm_eps"}
EXPERTS = {"expert_used_count": "num_experts_per_tok"}
MULTIPLIERS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


def without(names: Mapping[str, str], *left_out: str) -> dict[str, str]:
    """Return a table without some of its rows."""
    return {key: name for key, name in names.items() if key not in left_out}


USUAL = (facts.heads, facts.output)

MAMBA_IN_HYBRIDS = {
    "ssm.conv_kernel": "mamba_d_conv",
    "ssm.state_size": "mamba_d_state",
    "ssm.group_count": "mamba_n_groups",
    "ssm.time_step_rank": "mamba_n_heads",
}
DENSE = SIZES | RMS
GPT2 = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
MAMBA = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
    "ssm.conv_kernel": "conv_kernel",
    "ssm.state_size": "state_size",
}
QWEN_MOE = DENSE | EXPERTS | {"expert_feed_forward_length": "moe_intermediate_size"}

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", DENSE, {}, (*USUAL, facts.biases, facts.mixtral)),
    "qwen2": Architecture("qwen2", DENSE, {"use_sliding_window": False}, USUAL),
    "qwen3": Architecture("qwen3", DENSE, {"use_sliding_window": False}, (*USUAL, facts.attention_bias)),
    "qwen2moe": Architecture(
        "qwen2_moe",
        QWEN_MOE | {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        {"norm_topk_prob": False, "use_sliding_window": False},
        (*USUAL, facts.count_of_experts),
    ),
    "qwen3moe": Architecture(
        "qwen3_moe",
        QWEN_MOE,
        {"norm_topk_prob": True, "use_sliding_window": False},
        (*USUAL, facts.attention_bias, facts.count_of_experts),
    ),
    # Text alone is in these files; without an image Qwen's models that see are those that do not.
    "qwen2vl": Architecture(
        "qwen2", DENSE, {"use_sliding_window": False}, (*USUAL, facts.only_of_images)
    ),
    "qwen3vl": Architecture(
        "qwen3",
        DENSE,
        {"use_sliding_window": False},
        (*USUAL, facts.attention_bias, facts.only_of_images),
    ),
    "qwen3vlmoe": Architecture(
        "qwen3_moe",
        QWEN_MOE,
        {"norm_topk_prob": True, "use_sliding_window": False},
        (*USUAL, facts.attention_bias, facts.count_of_experts, facts.only_of_images),
    ),
    "gemma": Architecture("gemma", DENSE, {"hidden_activation": "gelu_pytorch_tanh"}, USUAL),
    "gemma2": Architecture(
        "gemma2",
        DENSE | {
            "attention.sliding_window": "sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        {},
        (*USUAL, facts.scale_of_scores(deepest=46)),
    ),
    "gemma3": Architecture(
        "gemma3_text",
        DENSE | {"final_logit_softcapping": "final_logit_softcapping"},
        {},
        (*USUAL, facts.scale_of_scores(deepest=62), facts.gemma3),
    ),
    "phi2": Architecture("phi", SIZES | LAYER, {}, (facts.rotated_heads, facts.output)),
    "phi3": Architecture("phi3", DENSE, {}, (facts.rotated_heads, facts.output, facts.phi3_window)),
    "gpt2": Architecture("gpt2", GPT2, {}, (facts.plain_heads, facts.output)),
    "gptneox": Architecture(
        "gpt_neox",
        SIZES | LAYER | {"use_parallel_residual": "use_parallel_residual"},
        {},
        (facts.rotated_heads, facts.output, facts.neox_biases),
    ),
    "falcon": Architecture(
        "falcon",
        without(SIZES, "feed_forward_length", "attention.head_count_kv") | {
            "feed_forward_length": "ffn_hidden_size",
            "attention.head_count_kv": "num_kv_heads",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {},
        (facts.rotated_heads, facts.output, facts.falcon),
    ),
    "mpt": Architecture(
        "mpt",
        {
            "context_length": "max_seq_len",
            "embedding_length": "d_model",
            "block_count": "n_layers",
            "attention.head_count": "n_heads",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {},
        (facts.plain_heads, facts.output, facts.mpt),
    ),
    "bloom": Architecture(
        "bloom",
        {
            "context_length": "seq_length",
            "embedding_length": "hidden_size",
            "block_count": "n_layer",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {},
        (facts.plain_heads, facts.output, facts.four_times_as_wide),
    ),
    "starcoder2": Architecture(
        "starcoder2", SIZES | {"attention.layer_norm_epsilon": "norm_epsilon"}, {}, (*USUAL, facts.starcoder2)
    ),
    "stablelm": Architecture("stablelm", SIZES | LAYER, {}, (*USUAL, facts.stablelm)),
    "mamba": Architecture(
        "mamba",
        MAMBA | {"ssm.inner_size": "intermediate_size", "ssm.time_step_rank": "time_step_rank"},
        {},
        (facts.output, facts.mamba),
    ),
    "mamba2": Architecture(
        "mamba2",
        MAMBA | {"ssm.group_count": "n_groups", "ssm.time_step_rank": "num_heads"},
        {},
        (facts.output, facts.mamba2),
    ),
    "granite": Architecture(
        "granite", DENSE | MULTIPLIERS, {}, (*USUAL, facts.biases, facts.granite_positions)
    ),
    "granitemoe": Architecture(
        "granitemoe",
        DENSE | MULTIPLIERS | EXPERTS,
        {},
        (*USUAL, facts.attention_bias, facts.granite_positions, facts.count_of_local_experts),
    ),
    "granitehybrid": Architecture(
        "granitemoehybrid",
        without(DENSE, "attention.head_count_kv") | MULTIPLIERS | MAMBA_IN_HYBRIDS,
        {},
        (*USUAL, facts.mamba_in_hybrids, facts.granite_hybrid),
    ),
    "falcon-h1": Architecture(
        "falcon_h1",
        DENSE | MAMBA_IN_HYBRIDS | {"ssm.inner_size": "mamba_d_ssm"},
        {},
        (*USUAL, facts.biases, facts.mamba_in_hybrids, facts.falcon_h1),
    ),
    "olmo2": Architecture("olmo2", DENSE, {}, (*USUAL, facts.attention_bias)),
    "gpt-oss": Architecture(
        "gpt_oss",
        without(DENSE, "feed_forward_length") | EXPERTS | {
            "expert_feed_forward_length": "intermediate_size",
            "attention.sliding_window": "sliding_window",
        },
        {},
        (facts.gpt_oss, facts.output, facts.attention_bias, facts.count_of_local_experts),
    ),
    "deepseek2": Architecture(
        "deepseek_v2",
        without(DENSE, "attention.head_count_kv") | EXPERTS | {
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_shared_count": "n_shared_experts",
            "expert_weights_scale": "routed_scaling_factor",
            "leading_dense_block_count": "first_k_dense_replace",
            "attention.kv_lora_rank": "kv_lora_rank",
        },
        {},
        (facts.output, facts.deepseek),
    ),
    "command-r": Architecture(
        "cohere",
        SIZES | LAYER | {"logit_scale": "logit_scale"},
        {},
        (*USUAL, facts.attention_bias, facts.cohere),
    ),
}  # fmt: skip


def gguf_config(keys: ModelKeys) -> JsonObject:
    """Return what the config.json of a GGUF file's model would say.

    keys  of the file

    Raises ConfigError for an architecture that is not read, or a key that asks for what is not implemented;
    CheckpointError for a value that is missing or of another kind.
    """
    if keys.name not in ARCHITECTURES:
        raise ConfigError(
            f"{keys.path}: is of the architecture {shown(keys.name)}, which is not read from GGUF files.\n"
            f"Read are {', '.join(ARCHITECTURES)}."
        )
    architecture = ARCHITECTURES[keys.name]
    config: JsonObject = {"model_type": architecture.model_type, **architecture.says}
    for ours, theirs in architecture.keys.items():
        if ours in keys:
            value = keys.value(ours)
            config[theirs] = keys.number(ours) if isinstance(value, list) else value
    for more in architecture.more:
        config |= more(keys)
    keys.refuse_unread()
    return config


def gguf_names(keys: ModelKeys) -> Names:
    """Return the names of the tensors of a file's architecture."""
    two_norms = keys.name == "falcon" and keys.has("blk.0.attn_norm_2.weight")
    return NAMES["falcon of two norms" if two_norms else keys.name]


def attention_heads(keys: ModelKeys) -> Heads:
    """Return how many heads attention has, and how wide they are; all 0 where there is none."""
    H = keys.whole("attention.head_count", 0)
    if H == 0:
        return Heads(0, 0, 0)
    of_layers = keys.value("attention.head_count_kv", H)
    G = max(of_layers, default=H) if isinstance(of_layers, list) else keys.whole("attention.head_count_kv", H)
    return Heads(H, G, facts.head_width(keys) if keys.name != "deepseek2" else 0)
