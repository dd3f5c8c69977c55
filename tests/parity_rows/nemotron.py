from typing import Any

from parity_case import FACTORS, Case, part
from switch_values import OF_HALVES

CASE = Case(
    "nemotron",
    small=part(0.5),
    variants={
        "norm_eps": {"norm_eps": 0.1},
        "whole_heads": part(1.0),
        "llama3": part(0.5, "llama3", **FACTORS),
        "all_biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1},
        "six_heads": {"hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8},
    },
    renamed={"partial_rotary_factor": "rope_percent"},
)

OTHERS: dict[str, list[Any]] = OF_HALVES | {"hidden_act": ["gelu"], "norm_eps": [0.1]}
