from typing import Any

from parity_case import FULL, NO_ROPE, SLIDING, Case, layers, near_and_far, rope, windows
from switch_values import OLD, Other

CASE = Case(
    "gemma3_text",
    small={"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
    | {"sliding_window_pattern": 2, **near_and_far(rope(rope_theta=20.0), rope())},
    variants={
        **NO_ROPE,
        "five_to_one": {"num_hidden_layers": 7, "sliding_window_pattern": 6},
        "all_full": {"sliding_window_pattern": 1},
        "all_sliding": layers(SLIDING, SLIDING),
        "full_first": layers(FULL, SLIDING, SLIDING, FULL),
        "scaled_far": near_and_far(rope(rope_theta=20.0), rope("linear", factor=8.0)),
        "scaled_near": near_and_far(rope("linear", rope_theta=20.0, factor=8.0), rope()),
        "logits_capped": {"final_logit_softcapping": 5.0},
        "scale": {"query_pre_attn_scalar": 100},
        **windows("sliding_window", 1, 2, 17, 64, 70, 71),
    },
)

OTHERS: dict[str, list[Any]] = {
    "rope_parameters": [
        {FULL: rope(rope_theta=50.0), SLIDING: rope(rope_theta=20.0)},
        {FULL: rope("yarn", factor=4.0), SLIDING: rope("linear", rope_theta=20.0, factor=4.0)},
    ],
    "max_position_embeddings": [
        Other(1024, given={"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}})
    ],
    "final_logit_softcapping": [3.0],
    "attn_logit_softcapping": [1.0],
    # transformers does not understand "type" here, and looks for nothing outside of the two.
    "rope_scaling": [Other({"rope_type": "linear", "factor": 4.0}, given=OLD)],
    "original_max_position_embeddings": [
        Other(32, given={"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}}, same=True)
    ],
}
