from typing import Any

from parity_case import Case, rope

CASE = Case(
    "nanochat",
    # Low enough to bound what such a small model computes.
    small={"final_logit_softcapping": 5.0},
    variants={
        "published_cap": {"final_logit_softcapping": 15.0},
        "no_cap": {"final_logit_softcapping": None},
        "wide_heads": {"head_dim": 12},
        "dynamic": {"rope_parameters": rope("dynamic", factor=4.0), "max_position_embeddings": 100},
    },
)

OTHERS: dict[str, list[Any]] = {"head_dim": [12]}
