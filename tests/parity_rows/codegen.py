from typing import Any

from parity_case import Case
from switch_values import Other

CASE = Case(
    "codegen",
    small={"rotary_dim": 4},
    more={"n_positions": 128},
    variants={
        "whole_heads": {"rotary_dim": 8},
        "one_pair": {"rotary_dim": 2},
        "inner_width": {"n_inner": 80, "activation_function": "relu"},
        # Heads that lie in two quarters, and two heads in each.
        "two_heads": {"n_head": 2, "rotary_dim": 6},
        "eight_heads": {"n_head": 8, "n_layer": 3},
        "six_heads": {"n_head": 6, "n_embd": 48},
    },
    old={"gradient_checkpointing": False, "scale_attn_weights": True, "summary_type": "cls_index"},
    renamed={"n_embd": "hidden_size", "n_layer": "num_hidden_layers"},
    buffers=("transformer.h.{i}.attn.causal_mask",),
)

INERT = "n_ctx"
OTHERS: dict[str, list[Any]] = {"rotary_dim": [8], "n_positions": [Other(32, same=True)]}
