"""What published models remember of a token: for each architecture one model, by the keys that decide it.

Sizes are the models' own, from their config files; keys not named here have transformers' defaults, which are
those of the model. The pattern of layers is cut to its period. What the layers remember is not computed from
these numbers by any formula: the model is built without weights, and its states are asked.
"""

import sys
from functools import cache
from typing import Any

from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import measured
from tinystar_np.models.base import Decoder

MAMBA, ATTENTION = "mamba", "attention"

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {  # model_type: (a model, what its config says)
    "bloom": ("176B", {"hidden_size": 14336, "n_head": 112}),
    "cohere": ("Command R", {}),
    "dbrx": ("DBRX", {"d_model": 6144, "n_heads": 48, "attn_config": {"kv_n_heads": 8}}),
    "deepseek_v2": ("V2", {"num_hidden_layers": 1}),
    "deepseek_v3": ("V3", {"num_hidden_layers": 1}),
    "falcon": ("7B", {}),
    "falcon_h1": ("7B", {"hidden_size": 3072, "num_attention_heads": 12, "num_key_value_heads": 2,
                         "head_dim": 128, "mamba_d_ssm": 3072, "mamba_n_heads": 24, "mamba_d_state": 256}),
    "gemma": ("7B", {}),
    "gemma2": ("2B", {}),
    "gemma3_text": ("4B", {"num_hidden_layers": 6, "sliding_window": 1024}),
    "gpt2": ("124M", {}),
    "gpt_neo": ("1.3B", {}),
    "gpt_neox": ("20B", {}),
    "gpt_oss": ("20B", {"num_hidden_layers": 2}),
    "gptj": ("6B", {}),
    "granite": ("3.1 8B", {"num_key_value_heads": 8}),
    "granitemoe": ("3.1 3B-A800M", {"hidden_size": 1536, "num_attention_heads": 24,
                                    "num_key_value_heads": 8}),
    "granitemoehybrid": ("H-Tiny", {"hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 4,
                                    "mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 128,
                                    "num_hidden_layers": 10, "layer_types": [*[MAMBA] * 9, ATTENTION]}),
    "llama": ("3.1 8B", {"num_key_value_heads": 8}),
    "llama4_text": ("Scout", {"num_hidden_layers": 4}),
    "mamba": ("2.8B", {"hidden_size": 2560}),
    "mamba2": ("Codestral 7B", {}),
    "mistral": ("7B v0.1", {}),
    "mixtral": ("8x7B", {}),
    "mpt": ("7B", {"d_model": 4096, "n_heads": 32}),
    "olmo": ("7B", {}),
    "olmo2": ("7B", {}),
    "olmoe": ("1B-7B", {}),
    "phi": ("1.5", {}),
    "phi3": ("3 mini 128k", {}),
    "qwen2": ("7B", {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4}),
    "qwen2_moe": ("1.5-MoE-A2.7B", {}),
    "qwen3": ("8B", {"num_key_value_heads": 8}),
    "qwen3_moe": ("30B-A3B", {"num_key_value_heads": 4, "head_dim": 128, "num_hidden_layers": 1}),
    "qwen3_next": ("80B-A3B", {"num_hidden_layers": 4}),
    "smollm3": ("3B", {}),
    "stablelm": ("3B", {}),
    "starcoder2": ("3B", {"sliding_window": 4096}),
}  # fmt: skip


@cache
def published_model(model_type: str) -> Decoder:
    """Build an architecture's model of the table, without weights."""
    return hollow_model({"model_type": model_type, **PUBLISHED[model_type][1]})


def remembered(model_type: str) -> str:
    """Say how many numbers a layer of the published model keeps of a token: "2048 (3.1 8B)"."""
    model = published_model(model_type)
    layers: dict[tuple[str, ...], int] = {}
    for block in model.blocks:
        said = tuple(_said(mixer) for mixer in mixers_of(block))
        layers[said] = layers.get(said, 0) + 1
    everywhere, period = len(layers) == 1, max(len(model.blocks) // min(layers.values()), 1)
    parts = [
        " and ".join(said)
        + ("" if everywhere else f" in {count * period // len(model.blocks)} of {period} layers")
        for said, count in layers.items()
    ]
    return f"{'; '.join(parts)} ({PUBLISHED[model_type][0]})"


def _said(mixer: Any) -> str:
    """Say what one mixer keeps: a number for each token, or one for the whole text."""
    size = measured("", [mixer])
    if not size.growth:
        return f"{size.fixed // 4} in all"
    ((until, added),) = size.growth.items()
    return f"{added // 4}" + ("" if until == sys.maxsize else f" of up to {until} tokens")
