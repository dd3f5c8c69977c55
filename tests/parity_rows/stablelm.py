from typing import Any

from parity_case import Case, part
from switch_values import OF_HALVES

CASE = Case(
    "stablelm",
    small=part(0.5),
    variants={
        "qkv_bias": {"use_qkv_bias": True},
        "parallel": {"use_parallel_residual": True},
        "norms_of_heads": {"qk_layernorm": True},
        "all_of_it": {"use_qkv_bias": True, "use_parallel_residual": True, "qk_layernorm": True}
        | {"layer_norm_eps": 0.1},
        "whole_heads": part(1.0),
    },
)

OTHERS: dict[str, list[Any]] = OF_HALVES
