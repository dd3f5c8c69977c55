from typing import Any

from parity_case import Case
from switch_values import Other

CASE = Case(
    "gptj",
    small={"rotary_dim": 4},
    more={"n_positions": 128},
    variants={
        "whole_heads": {"rotary_dim": 8},
        "one_pair": {"rotary_dim": 2},
        "inner_width": {"n_inner": 80, "activation_function": "relu"},
    },
    old={"rotary": True, "scale_attn_weights": True, "gradient_checkpointing": False},
    renamed={"n_embd": "hidden_size", "n_layer": "num_hidden_layers"},
    buffers=("transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias"),
)

OTHERS: dict[str, list[Any]] = {"rotary_dim": [8], "n_positions": [Other(32, same=True)]}
