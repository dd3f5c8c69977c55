from typing import Any

from parity_case import FULL, NO_ROPE, SLIDING, YARN, Case, layers, near_and_far, rope, windows
from switch_values import Other

CONV = "conv"
HALF = rope("proportional", partial_rotary_factor=0.5)
CASE = Case(
    "lfm3",
    small={"head_dim": 8, "sliding_window": 5, **layers(CONV, SLIDING, FULL), **near_and_far(rope(), HALF)},
    variants={
        **NO_ROPE,
        "biases": {"conv_bias": True, "attention_bias": True},
        "no_gates": {"use_attention_gate": False},
        "no_post_norms": {"use_sandwich_norm": False},
        "usual_kinds": {"layer_types": None, "num_hidden_layers": 6},
        "full_first": layers(FULL, CONV),
        "only_convolutions": layers(CONV, CONV),
        "only_windows": layers(SLIDING, SLIDING),
        "all_attend": layers(SLIDING, FULL),
        "convolution_of_1": {"conv_L_cache": 1},
        "convolution_of_2": {"conv_L_cache": 2},
        "yarn_far": near_and_far(rope(), YARN),
        "epsilon": {"norm_eps": 0.1},
        **windows("sliding_window", 1, 17, 64),
    },
    long=(({}, 320),),
)

FAR = {"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}}
OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(4, also={"layer_types": [CONV, SLIDING, FULL, CONV]})],
    "layer_types": [[FULL, SLIDING, CONV], [CONV, CONV, CONV], None],
    "head_dim": [12],
    "norm_eps": [0.1],
    "conv_L_cache": [4, 1],
    "sliding_window": [3],
    "rope_parameters": [
        {FULL: rope(rope_theta=50.0), SLIDING: rope(rope_theta=20.0)},
        {FULL: rope("yarn", factor=4.0), SLIDING: rope("linear", rope_theta=20.0, factor=4.0)},
    ],
    "max_position_embeddings": [Other(1024, given=FAR)],
}
