from typing import Any

from parity_case import Case, part
from switch_values import OF_HALVES, Other

CASE = Case(
    "gpt_neox",
    small=part(0.5),
    variants={
        "sequential": {"use_parallel_residual": False},
        "attention_bias": {"attention_bias": False},
        "whole_heads": part(1.0, rope_theta=25000.0),
        "one_number_too_many_for_pairs": {"hidden_size": 64, **part(0.2)},  # 3 of 16, rounded up to 4
    },
    renamed={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    buffers=(
        "gpt_neox.layers.{i}.attention.bias",
        "gpt_neox.layers.{i}.attention.masked_bias",
        "gpt_neox.layers.{i}.attention.rotary_emb.inv_freq",
    ),
)

OTHERS: dict[str, list[Any]] = OF_HALVES | {"head_dim": [Other(8, same=True), 6]}
