from typing import Any

from parity_case import Case, part, rope, windows
from switch_values import HALF, OLD, Other

RECURRENT, ATTENTION = "recurrent", "attention"


def blocks(*kinds: str) -> dict[str, Any]:
    """As many layers, of these kinds."""
    return {"block_types": list(kinds), "num_hidden_layers": len(kinds)}


CASE = Case(
    "recurrent_gemma",
    small={"block_types": [RECURRENT, ATTENTION], "attention_window_size": 5, "logits_soft_cap": 5.0}
    | part(0.5),
    variants={
        **dict.fromkeys(("linear", "yarn")),  # transformers has the default rule alone
        "published_pattern": {"block_types": [RECURRENT, RECURRENT, ATTENTION], "num_hidden_layers": 5},
        "attention_first": blocks(ATTENTION, RECURRENT, RECURRENT),
        "only_attention": blocks(ATTENTION, ATTENTION),
        "only_recurrent": blocks(RECURRENT, RECURRENT),
        "narrow": {"lru_width": 20},
        "wide": {"lru_width": 48},
        "odd_feed_forward": {"intermediate_size": 41},
        "published_cap": {"logits_soft_cap": 30.0},
        "convolution_of_2": {"conv1d_width": 2},
        "convolution_of_1": {"conv1d_width": 1},
        "whole_heads": part(1.0),
        "quarter": part(0.25),
        **windows("attention_window_size", 1, 17, 64),
    },
    long=(({}, 320),),
)

OTHERS: dict[str, list[Any]] = {
    "lru_width": [48],
    "attention_window_size": [3],
    "conv1d_width": [3],
    "logits_soft_cap": [3.0],
    "block_types": [[ATTENTION, RECURRENT], [RECURRENT], [ATTENTION]],
    "rope_parameters": [
        rope(rope_theta=50.0, partial_rotary_factor=0.5),
        rope(partial_rotary_factor=0.25),
        rope("yarn", factor=4.0, partial_rotary_factor=0.5),
    ],
    "rope_theta": [Other(50.0, given={**OLD, **HALF})],
    "partial_rotary_factor": [Other(0.25, given=OLD)],
    "embeddings_scale_by_sqrt_dim": [False],
    "rope_scaling": [Other({"type": "linear", "factor": 4.0}, given={**OLD, **HALF})],
}
INERT = "w_init_variance_scale"
