from typing import Any

from parity_case import Case, part
from switch_values import OF_HALVES

CASE = Case(
    "gpt_neox_japanese",
    small={"intermediate_multiple_size": 2, **part(0.5)},
    variants={
        "whole_heads": part(1.0, rope_theta=25000.0),
        "one_layer": {"num_hidden_layers": 1},
        "three_layers": {"num_hidden_layers": 3, "num_attention_heads": 2},
        "narrow": {"intermediate_multiple_size": 1},
    },
    renamed={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    buffers=(
        "gpt_neox_japanese.layers.{i}.attention.bias",
        "gpt_neox_japanese.layers.{i}.attention.masked_bias",
        "gpt_neox_japanese.layers.{i}.attention.rotary_emb.inv_freq",
    ),
)

OTHERS: dict[str, list[Any]] = OF_HALVES | {"intermediate_multiple_size": [3]}
