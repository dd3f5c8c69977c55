"""Repositories whose code is their own, and whose mathematics is an architecture that runs here.

Such a config.json has a ``model_type`` that transformers never knew. Here it becomes what the same model
would say today: another ``model_type``, and other names of keys. Where tensors have other names as well, the
file of that architecture has them (``OTHER_NAMES``, ``OTHER_FORMS``).

A file must give its sizes: what a missing key means stands in the repository's own code alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.models.config import require

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("max_position_embeddings", "rms_norm_eps"),
)
"""Keys of a Llama that every published file has."""


def check_said(raw: JsonObject, keys: Sequence[str]) -> None:
    """Raise ConfigError where one of these keys is missing."""
    missing = [key for key in keys if raw.get(key) is None]
    require(not missing, f"{', '.join(missing)} of model_type {shown(raw['model_type'])} must be given.")


def check_only(raw: JsonObject, harmless: Mapping[str, tuple[object, ...]]) -> None:
    """Raise ConfigError where a key is there with a value under which it would change the mathematics."""
    for key, values in harmless.items():
        require(
            raw.get(key, values[0]) in values,
            f"{key} = {shown(raw.get(key))} is not implemented for model_type {shown(raw['model_type'])}.",
        )


def llama(raw: JsonObject) -> JsonObject:
    """Aquila, XVERSE and the first files of Yi: Llama, with the same keys."""
    check_said(raw, SIZES)
    check_only(raw, {"num_experts": (None, 0), "moe": (None, False)})  # XVERSE has models with experts
    return {**raw, "model_type": "llama"}


def internlm(raw: JsonObject) -> JsonObject:
    """InternLM 1: Llama with biases in attention; a rule of rotations in a key of its own."""
    check_said(raw, SIZES)
    rotary = raw.get("rotary") or {}
    rule = rotary.get("type", "origin")
    require(rule in ("origin", "dynamic"), f"rotary.type = {shown(rule)} is not known here.")
    stretched = {"type": "dynamic", "factor": rotary.get("scaling_factor", 1.0)}
    return raw | {
        "model_type": "llama",
        "attention_bias": raw.get("bias", True),
        "rope_theta": rotary.get("base", 10000),
        "rope_scaling": stretched if rule == "dynamic" else None,
    }


def minicpm(raw: JsonObject) -> JsonObject:
    """MiniCPM 1, 2 and 4: Granite, whose four multipliers are computed from other numbers."""
    check_said(raw, SIZES)
    check_only(raw, {"num_experts": (None, 0), "sparse_config": (None,), "attention_bias": (None, False)})
    D, H, L = (raw[key] for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    depth, base = raw.get("scale_depth", 1), raw.get("dim_model_base", 1)
    numbers = {"hidden_size": D, "num_attention_heads": H, "num_hidden_layers": L, "dim_model_base": base}
    for key, value in numbers.items():
        require(type(value) is int and value >= 1, f"{key} = {shown(value)} must be at least 1.")
    require(
        type(depth) in (int, float) and math.isfinite(depth),
        f"scale_depth = {shown(depth)} must be a number.",
    )
    return raw | {
        "model_type": "granite",
        "embedding_multiplier": raw.get("scale_emb", 1),
        "attention_multiplier": max(D // H, 1) ** -0.5,
        "residual_multiplier": depth / math.sqrt(L),
        "logits_scaling": D / base,
        "tie_word_embeddings": raw.get("tie_word_embeddings", True),
    }


def mimo(raw: JsonObject) -> JsonObject:
    """MiMo 7B: Qwen 2; the layers that draft further tokens are left out."""
    check_said(raw, SIZES)
    check_only(raw, {"attention_bias": (True, None)})
    return {**raw, "model_type": "qwen2"}


def orion(raw: JsonObject) -> JsonObject:
    """Orion 14B: Llama with layer norms, which is StableLM with whole heads rotated."""
    check_said(raw, SIZES)
    check_only(raw, {"attention_bias": (None, False)})
    return raw | {
        "model_type": "stablelm",
        "layer_norm_eps": raw["rms_norm_eps"],
        "num_key_value_heads": raw.get("num_key_value_heads") or raw["num_attention_heads"],
        "partial_rotary_factor": 1.0,
    }


GLM_SIZES = (
    *("padded_vocab_size", "hidden_size", "ffn_hidden_size", "num_layers", "num_attention_heads"),
    *("kv_channels", "seq_length", "layernorm_epsilon"),
)
GLM_ONLY: Mapping[str, tuple[object, ...]] = {
    "add_bias_linear": (False,),
    "apply_residual_connection_post_layernorm": (False,),
    "interleaved_qkv": (False, None),
    "original_rope": (True,),
    "position_encoding_2d": (None, False),  # ChatGLM 1 has two positions for each token
    "post_layer_norm": (True,),
    "pre_seq_len": (None,),
    "quantization_bit": (0, None),
    "rmsnorm": (True,),
    "vision_config": (None,),
}


def chatglm(raw: JsonObject) -> JsonObject:
    """ChatGLM 2 and 3, and GLM-4 9B in its first files: GLM."""
    check_only(raw, GLM_ONLY)
    check_said(raw, GLM_SIZES)
    ratio = raw.get("rope_ratio", 1)
    require(type(ratio) in (int, float) and ratio > 0, f"rope_ratio = {shown(ratio)} must be above 0.")
    heads = raw["num_attention_heads"]
    return {
        **{key: raw[key] for key in ("eos_token_id", "quantization_config", "torch_dtype") if key in raw},
        "model_type": "glm",
        "vocab_size": raw["padded_vocab_size"],
        "hidden_size": raw["hidden_size"],
        "intermediate_size": raw["ffn_hidden_size"],
        "num_hidden_layers": raw["num_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": (
            raw.get("multi_query_group_num", 1) if raw.get("multi_query_attention", False) else heads
        ),
        "head_dim": raw["kv_channels"],
        "max_position_embeddings": raw["seq_length"],
        "rms_norm_eps": raw["layernorm_epsilon"],
        "rope_theta": 10000.0 * ratio,
        "attention_bias": raw.get("add_qkv_bias", False),
        "tie_word_embeddings": raw.get("tie_word_embeddings", False),
    }


OLD_NAMES: Mapping[str, tuple[str, Callable[[JsonObject], JsonObject]]] = {
    "Yi": ("llama", llama),
    "aquila": ("llama", llama),
    "chatglm": ("glm", chatglm),
    "internlm": ("llama", internlm),
    "mimo": ("qwen2", mimo),
    "minicpm": ("granite", minicpm),
    "orion": ("stablelm", orion),
    "xverse": ("llama", llama),
}
"""``model_type`` of a repository: today's, and what makes its config.json one of today's."""


def as_today(raw: JsonObject) -> JsonObject:
    """Return what a config.json would say today; the same where it does already.

    Raises ConfigError for what that architecture does not do.
    """
    _, translated = OLD_NAMES.get(raw["model_type"], ("", dict))
    return translated(raw)
