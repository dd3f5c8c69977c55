from typing import Any

from parity_case import FACTORS, Case, part
from switch_values import OF_HALVES

CASE = Case(
    "glm",
    small={"head_dim": 8, **part(0.5)},
    variants={
        "no_attention_bias": {"attention_bias": False},
        "half_a_pair": {"head_dim": 12, **part(0.6)},  # 7 of 12 numbers: the last pair is rotated whole
        "whole_heads": part(1.0),
        "llama3": part(0.5, "llama3", **FACTORS),
    },
    buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)

OTHERS: dict[str, list[Any]] = OF_HALVES
