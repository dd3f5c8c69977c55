from typing import Any

from parity_case import LLAMA3, Case, rope
from switch_values import ROPES, Other

STRETCHED = {"rope_parameters": None, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}
CASE = Case(
    "apertus",
    more={"rope_parameters": LLAMA3},
    variants={
        "not_stretched": {"rope_parameters": rope()},
        "published": {"rope_parameters": None},
        "wide_heads": {"head_dim": 12},
    },
    of_today=("not_stretched",),  # without a word of rotations they meant llama3
)

OTHERS: dict[str, list[Any]] = {
    "hidden_act": ["relu2"],
    "head_dim": [12],
    "rope_parameters": [*ROPES, rope(partial_rotary_factor=0.5), LLAMA3],
    "rope_theta": [Other(50.0, given={**STRETCHED, "rope_theta": 100.0})],
}
