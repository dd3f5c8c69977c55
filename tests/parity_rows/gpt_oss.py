from typing import Any

from parity_case import ALL_OF_4, FULL, ONE_OF_4, ORIGINAL, SLIDING, YARN, Case, layers, rope

CASE = Case(
    "gpt_oss",
    small={"head_dim": 8, "sliding_window": 5, "swiglu_limit": 0.8},  # many activations are beyond it
    more={"rope_parameters": YARN},
    variants={
        "gelu": None,  # the class reads no activation
        "no_yarn": {"rope_parameters": rope()},
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "limit": {"swiglu_limit": 7.0},
        "alpha": {"swiglu_alpha": 1.0},
        "attention_bias": {"attention_bias": False},
        "three": layers(FULL, FULL, SLIDING),
        "window_17": {"sliding_window": 17},
        "truncated": {"rope_parameters": rope("yarn", factor=8.0, truncate=True, **ORIGINAL)},
    },
    of_today=("no_yarn",),  # without a word of rotations they meant yarn
)

OTHERS: dict[str, list[Any]] = {"swiglu_alpha": [1.0], "swiglu_limit": [0.4]}
