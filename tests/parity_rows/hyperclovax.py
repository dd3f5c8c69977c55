from typing import Any

from parity_case import GRANITE, NO_MULTIPLIERS, Case

CASE = Case(
    "hyperclovax",
    more={**GRANITE, "logits_scaling": 0.25},
    variants={
        "no_multipliers": {**NO_MULTIPLIERS, "attention_multiplier": None},
        "no_post_norms": {"use_post_norm": False},
        "all_biases": {"attention_bias": True, "mlp_bias": True},
        "wide_heads": {"head_dim": 12},
        "wide_heads_scaled_as_usual": {"head_dim": 12, "attention_multiplier": None},
    },
)

OTHERS: dict[str, list[Any]] = {"attention_multiplier": [0.2], "logits_scaling": [0.25]}
