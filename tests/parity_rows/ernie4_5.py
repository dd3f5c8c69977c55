from typing import Any

from parity_case import Case

CASE = Case(
    "ernie4_5",
    small={"head_dim": 8},
    variants={
        "biases": {"use_bias": True},
        "heads_of_the_width": {"head_dim": None},
        "every_query_has_its_key": {"num_key_value_heads": None},
    },
    old={"use_3d_rope": False, "compression_ratio": 1.0},
)

OTHERS: dict[str, list[Any]] = {"use_bias": [True]}
