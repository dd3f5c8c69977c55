"""What follows from several keys of a GGUF file, or from its tensors: parts of its config.json.

Each function takes the keys of the architecture and returns further keys of config.json; gguf_config.py says
which architecture needs which. They raise CheckpointError for a value that is missing or of another kind,
ConfigError for what is not implemented.
"""

from collections.abc import Callable

from tinystar_np.checkpoints.gguf_keys import ModelKeys
from tinystar_np.checkpoints.gguf_rope import rope_parameters
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.errors import ConfigError

SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"


def head_width(keys: ModelKeys) -> int:
    """Return K: what the file says, or the width divided among the heads."""
    width, heads = keys.whole("embedding_length"), keys.whole("attention.head_count")
    usual = width // max(heads, 1)
    K, values = keys.whole("attention.key_length", usual), keys.whole("attention.value_length", usual)
    if values != K:
        raise ConfigError(f"{keys.path}: keys of {K} numbers and values of {values} are not implemented.")
    return K


def heads(keys: ModelKeys) -> JsonObject:
    """Say how wide a head is, and how it is rotated."""
    K = head_width(keys)
    return {"head_dim": K, "rope_parameters": rope_parameters(keys, K)}


def plain_heads(keys: ModelKeys) -> JsonObject:
    """Check that heads divide the width among themselves, where no key of config.json says another."""
    K = head_width(keys)
    if K * keys.whole("attention.head_count") != keys.whole("embedding_length"):
        raise ConfigError(f"{keys.path}: heads of {K} numbers are not implemented for this architecture.")
    return {}


def rotated_heads(keys: ModelKeys) -> JsonObject:
    """Say how heads are rotated that divide the width among themselves."""
    return plain_heads(keys) | {"rope_parameters": rope_parameters(keys, head_width(keys))}


def output(keys: ModelKeys) -> JsonObject:
    """Say how many tokens there are, and whether the output layer is the table of embeddings."""
    table = keys.tensors.get("token_embd.weight")
    rows = {"vocab_size": table.shape[0]} if table is not None and table.shape else {}
    return rows | {"tie_word_embeddings": not keys.has("output.weight")}


def biases(keys: ModelKeys) -> JsonObject:
    """Say whether linear layers have biases."""
    return {
        "attention_bias": keys.has("blk.0.attn_q.bias"),
        "mlp_bias": keys.has("blk.0.ffn_up.bias"),
    }


# What single architectures have.


def mixtral(keys: ModelKeys) -> JsonObject:
    """Tell Mixtral from Llama by its experts."""
    experts = keys.whole("expert_count", 0)
    if not experts:
        keys.value("expert_used_count")
        return {}
    used = keys.whole("expert_used_count")
    return {"model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": used}


def only_of_images(keys: ModelKeys) -> JsonObject:
    """Pass over what rotates by the rows and columns of an image, and how many layers read its vectors."""
    for unused in ("rope.dimension_sections", "n_deepstack_layers"):
        keys.value(unused)
    return {}


def count_of_experts(keys: ModelKeys) -> JsonObject:
    """Say how many experts there are."""
    return {"num_experts": keys.whole("expert_count")}


def count_of_local_experts(keys: ModelKeys) -> JsonObject:
    """Say how many experts there are, under the name that other architectures have for it."""
    return {"num_local_experts": keys.whole("expert_count")}


def scale_of_scores(deepest: int) -> Callable[[ModelKeys], JsonObject]:
    """Return what finds Gemma's scale of scores, which the model of so many layers has another of."""

    def scale(keys: ModelKeys) -> JsonObject:
        width, count = keys.whole("embedding_length"), max(keys.whole("attention.head_count"), 1)
        largest = keys.whole("block_count") == deepest
        return {"query_pre_attn_scalar": width // count if largest else head_width(keys)}

    return scale


def gemma3(keys: ModelKeys) -> JsonObject:
    """Say which layers have a window, and how each kind is rotated."""
    period = keys.whole("attention.sliding_window_pattern", 6)
    window = keys.whole("attention.sliding_window", 0)
    layers = range(keys.layers)
    near = {"rope_type": "default", "rope_theta": keys.number("rope.freq_base_swa", 10000.0)}
    return {
        "sliding_window": window or None,
        "layer_types": [FULL if not window or (i + 1) % max(period, 1) == 0 else SLIDING for i in layers],
        "rope_parameters": {SLIDING: near, FULL: rope_parameters(keys, head_width(keys))},
    }


def phi3_window(keys: ModelKeys) -> JsonObject:
    """Read the window, and at which length the factors of longer texts begin."""
    trained = keys.whole("rope.scaling.original_context_length", keys.whole("context_length"))
    window = keys.whole("attention.sliding_window", 0)
    return {"sliding_window": window or None, "original_max_position_embeddings": trained}


def falcon(keys: ModelKeys) -> JsonObject:
    """Tell Falcon's forms apart: two norms or one, one key head or several."""
    grouped = keys.whole("attention.head_count_kv", 1) > 1
    norms = 2 if keys.has("blk.0.attn_norm_2.weight") else 1
    forms: JsonObject = {"new_decoder_architecture": grouped or norms == 2, "num_ln_in_parallel_attn": norms}
    return forms | {"bias": keys.has("blk.0.attn_qkv.bias")}


def mpt(keys: ModelKeys) -> JsonObject:
    """Read MPT's object about attention."""
    largest = keys.number("attention.max_alibi_bias", 0.0)
    clip = keys.number("attention.clamp_kqv", 0.0)
    if keys.whole("feed_forward_length") != 4 * keys.whole("embedding_length"):
        raise keys.error("feed_forward_length", "four times the embedding's")
    if largest == 0:
        raise ConfigError(f"{keys.path}: MPT with learned positions is not implemented.")
    whole = int(largest) if largest.is_integer() else largest  # transformers refuses 8.0
    return {"attn_config": {"alibi": True, "alibi_bias_max": whole, "clip_qkv": clip or None}}


def four_times_as_wide(keys: ModelKeys) -> JsonObject:
    """Check the width of BLOOM's feed-forward layers, which no key of its config.json says."""
    if keys.whole("feed_forward_length") != 4 * keys.whole("embedding_length"):
        raise keys.error("feed_forward_length", "four times the embedding's")
    if keys.whole("attention.head_count_kv", 0) not in (0, keys.whole("attention.head_count")):
        raise keys.error("attention.head_count_kv", "the number of heads")
    return {}


def starcoder2(keys: ModelKeys) -> JsonObject:
    """Say whether linear layers have biases."""
    return {"use_bias": keys.has("blk.0.attn_q.bias")}


def neox_biases(keys: ModelKeys) -> JsonObject:
    """Say whether attention has biases."""
    return {"attention_bias": keys.has("blk.0.attn_qkv.bias")}


def stablelm(keys: ModelKeys) -> JsonObject:
    """Tell StableLM's forms apart by their tensors, as llama.cpp does."""
    keys.value("use_parallel_residual")  # the conversion writes true for models that are not
    return {
        "use_parallel_residual": not keys.has("blk.0.ffn_norm.weight"),
        "qk_layernorm": keys.has("blk.0.attn_q_norm.weight"),
        "use_qkv_bias": keys.has("blk.0.attn_q.bias"),
    }


def mamba(keys: ModelKeys) -> JsonObject:
    """Read which biases there are."""
    return {"use_conv_bias": keys.has("blk.0.ssm_conv1d.bias"), "use_bias": keys.has("blk.0.ssm_in.bias")}


def mamba2(keys: ModelKeys) -> JsonObject:
    """Read how heads divide the inner width."""
    return {
        "head_dim": keys.whole("ssm.inner_size") // max(keys.whole("ssm.time_step_rank"), 1),
        "expand": keys.whole("ssm.inner_size") // max(keys.whole("embedding_length"), 1),
        **mamba(keys),
    }


def mamba_in_hybrids(keys: ModelKeys) -> JsonObject:
    """Read how heads divide the inner width, and which biases there are, of a layer that may have none."""
    blocks = range(keys.layers)
    first = next((i for i in blocks if keys.has(f"blk.{i}.ssm_in.weight")), 0)
    inner = keys.whole("ssm.inner_size")
    return {
        "mamba_d_head": inner // max(keys.whole("ssm.time_step_rank"), 1),
        "mamba_expand": inner // max(keys.whole("embedding_length"), 1),
        "mamba_conv_bias": keys.has(f"blk.{first}.ssm_conv1d.bias"),
        "mamba_proj_bias": keys.has(f"blk.{first}.ssm_in.bias"),
    }


def falcon_h1(keys: ModelKeys) -> JsonObject:
    """Read the norm after the scan; the multipliers are in the weights already."""
    return {"mamba_rms_norm": keys.has("blk.0.ssm_norm.weight"), "mamba_norm_before_gate": False}


def granite_positions(keys: ModelKeys) -> JsonObject:
    """Refuse a Granite without positions, which its own config.json cannot say."""
    if keys.value("rope.scaling.finetuned", True) is False:
        raise keys.error("rope.scaling.finetuned", "true: without positions it is another architecture")
    return {}


def granite_hybrid(keys: ModelKeys) -> JsonObject:
    """Read which layers attend, and how positions are known."""
    by_layer = keys.value("attention.head_count_kv")
    if not isinstance(by_layer, list) or not all(type(count) is int for count in by_layer):
        raise keys.error("attention.head_count_kv", "a list of whole numbers, one for each layer")
    experts = keys.whole("expert_count", 0)
    shared = keys.whole("expert_shared_feed_forward_length", 0)
    return {
        "num_key_value_heads": max(by_layer, default=0) or keys.whole("attention.head_count"),
        "layer_types": [FULL if count else LINEAR for count in by_layer],
        "position_embedding_type": "rope" if keys.value("rope.scaling.finetuned", True) else "nope",
        "num_local_experts": experts,
        "num_experts_per_tok": keys.whole("expert_used_count", 0),
        "shared_intermediate_size": shared or keys.whole("feed_forward_length"),
        "attention_bias": False,
    }


def gpt_oss(keys: ModelKeys) -> JsonObject:
    """Say which layers have a window, and that YaRN's ends are not rounded."""
    found = heads(keys)
    keys.value("feed_forward_length")  # there is none beside the experts
    if found["rope_parameters"]["rope_type"] == "yarn":
        found["rope_parameters"]["truncate"] = False
    layers = range(keys.layers)
    return found | {"layer_types": [FULL if i % 2 else SLIDING for i in layers]}


def deepseek(keys: ModelKeys) -> JsonObject:
    """Tell DeepSeek's V2 from V3, and read the widths of latent attention."""
    rotated = keys.whole("rope.dimension_count")
    key = "attention.key_length_mla" if "attention.key_length_mla" in keys else "attention.key_length"
    value = "attention.value_length_mla" if "attention.value_length_mla" in keys else "attention.value_length"
    found: JsonObject = {
        "qk_rope_head_dim": rotated,
        "qk_nope_head_dim": keys.whole(key) - rotated,
        "v_head_dim": keys.whole(value),
        "q_lora_rank": keys.whole("attention.q_lora_rank", 0) or None,
        "rope_parameters": rope_parameters(keys, rotated),
        "n_routed_experts": keys.whole("expert_count"),
        "num_key_value_heads": keys.whole("attention.head_count"),
    }
    for unused in ("attention.key_length", "attention.value_length", "attention.head_count_kv"):
        keys.value(unused)
    mscale = keys.number("rope.scaling.yarn_log_multiplier", 0.0)
    if found["rope_parameters"]["rope_type"] == "yarn" and mscale:
        # Published files have both alike, and the conversion writes a tenth of the second.
        weight = round(10 * mscale, 6)
        found["rope_parameters"] |= {"mscale": weight, "mscale_all_dim": weight}
    groups, chosen = keys.whole("expert_group_count", 1), keys.whole("expert_group_used_count", 1)
    found |= {"n_group": groups, "topk_group": chosen}
    normed = keys.value("expert_weights_norm", False)
    gating = keys.whole("expert_gating_func", 0) or (2 if keys.has("blk.0.exp_probs_b.bias") else 1)
    if gating == 2:
        return found | {"model_type": "deepseek_v3", "norm_topk_prob": normed}
    if gating != 1 or normed:
        raise keys.error("expert_gating_func", "1, softmax without norm, or 2, sigmoid")
    return found | {"topk_method": "group_limited_greedy" if groups > 1 else "greedy"}


def cohere(keys: ModelKeys) -> JsonObject:
    """Say whether queries and keys are normed."""
    return {"use_qk_norm": keys.has("blk.0.attn_q_norm.weight"), "tie_word_embeddings": True}


def attention_bias(keys: ModelKeys) -> JsonObject:
    """Say whether attention has biases."""
    return {"attention_bias": keys.has("blk.0.attn_q.bias")}
