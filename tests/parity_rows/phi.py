from typing import Any

from parity_case import FACTORS, Case, part
from switch_values import OF_HALVES

CASE = Case(
    "phi",
    small=part(0.5),
    variants={
        "phi_2": {"hidden_size": 80, **part(0.4)},
        "normed": {"qk_layernorm": True, "num_key_value_heads": 1, "layer_norm_eps": 0.01},
        "llama3": part(0.5, "llama3", **FACTORS),
    },
    buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)

OTHERS: dict[str, list[Any]] = OF_HALVES
