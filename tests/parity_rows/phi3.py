from typing import Any

from parity_case import LONGROPE, NO_ROPE, Case, part, windows
from switch_values import HALVES, LONGROPE_OF_HALF, Other

CASE = Case(
    "phi3",
    small={"sliding_window": 5, **part(0.5), "original_max_position_embeddings": 16},
    more={"max_position_embeddings": 256, "original_max_position_embeddings": 128},
    variants={
        **NO_ROPE,  # it knows another rule
        "every_query_has_its_key": {"num_key_value_heads": None},
        **windows("sliding_window", 17, 69, None),
        "whole_heads": part(1.0),
        # Texts here are shorter than the original length; test_rotations_by_length.py has longer ones.
        "longrope": part(0.5, **LONGROPE),
        "longrope_given_factors": part(0.5, **LONGROPE, factor=8.0, attention_factor=1.3),
        "phi_4_mini": part(0.75, "longrope", short_factor=[1, 1.1, 1.2], long_factor=[1, 2, 3])
        | {"tie_word_embeddings": True},
    },
)

OTHERS: dict[str, list[Any]] = {
    "rope_parameters": [*HALVES, LONGROPE_OF_HALF, {**LONGROPE_OF_HALF, "short_factor": [1.0, 1.5]}],
    "original_max_position_embeddings": [Other(32, given={"rope_parameters": LONGROPE_OF_HALF})],
    "max_position_embeddings": [Other(128, given={"rope_parameters": LONGROPE_OF_HALF})],
}
