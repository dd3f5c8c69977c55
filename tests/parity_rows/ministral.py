from typing import Any

from parity_case import FULL, SLIDING, Case, layers, windows
from switch_values import Other

CASE = Case(
    "ministral",
    small={"sliding_window": 5, "head_dim": 8},
    variants={
        **windows("sliding_window", 1, 2, 17, 64, 69, 70, 71),
        "far_first": layers(FULL, SLIDING),
        "far_between": layers(SLIDING, FULL, SLIDING),
        "all_far": layers(FULL, FULL),
    },
    must_say=("head_dim",),  # transformers' model breaks off without it
    long=(({"sliding_window": 100}, 1500),),
)

OTHERS: dict[str, list[Any]] = {
    "num_attention_heads": [Other(2, also={"num_key_value_heads": 1})],
    "sliding_window": [3],  # the model of transformers cannot run without one
}
