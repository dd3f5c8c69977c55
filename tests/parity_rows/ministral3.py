from typing import Any

from parity_case import YARN, Case, rope, windows
from switch_values import GROWING, Other

CASE = Case(
    "ministral3",
    # From 8 of thousands on: otherwise nothing grows within a test.
    small={
        "rope_parameters": rope(
            "yarn", factor=4.0, llama_4_scaling_beta=0.7, original_max_position_embeddings=8
        )
    },
    variants={
        "published": {"rope_parameters": None},
        "not_scaled": {"rope_parameters": rope(llama_4_scaling_beta=0.5, original_max_position_embeddings=3)},
        "no_growth": {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.0}},
        **windows("sliding_window", 5, 17),
    },
    of_today=("not_scaled",),  # old files said nothing of growth without scaling
)

OTHERS: dict[str, list[Any]] = {
    "rope_parameters": [
        {**GROWING, "rope_theta": 50.0},
        {**GROWING, "llama_4_scaling_beta": 0.2},
        {**GROWING, "original_max_position_embeddings": 6},
        {**GROWING, "factor": 2.0},
        rope(llama_4_scaling_beta=0.7, original_max_position_embeddings=8),
        rope("yarn", factor=4.0, original_max_position_embeddings=8),
    ],
    "rope_scaling": [Other({**GROWING, "factor": 2.0}, given={"rope_parameters": None})],
    "rope_theta": [
        Other(50.0, given={"rope_parameters": {k: v for k, v in GROWING.items() if k != "rope_theta"}})
    ],
    "max_position_embeddings": [
        Other(10, given={"rope_parameters": {k: v for k, v in GROWING.items() if k[:8] != "original"}})
    ],
    "original_max_position_embeddings": [7],
    "sliding_window": [3],
}
