from typing import Any

from parity_case import ALL_OF_4, FULL, LINEAR, ONE_OF_4, Case, layers, part
from switch_values import OF_HALVES

SECTIONS = {"mrope_section": [1, 1, 0], "mrope_interleaved": True}  # without images they say nothing

CASE = Case(
    "qwen3_5_moe_text",
    small={"head_dim": 8, **part(0.5, **SECTIONS), "full_attention_interval": 2}
    | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    # The usual epsilon magnifies rounding, see qwen3_next.py.
    | {"linear_num_value_heads": 4, "rms_norm_eps": 0.01},
    more={"linear_value_head_dim": 12},
    buffers=("mtp.fc.weight",),
    variants={
        "heads_alike": {"linear_num_value_heads": 2, "linear_value_head_dim": 8},
        "one_key_head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
        "odd_heads": {"linear_num_key_heads": 3, "linear_num_value_heads": 9, "linear_key_head_dim": 5},
        "four": {**layers(FULL, LINEAR, FULL, LINEAR), "rms_norm_eps": 0.1},
        "no_delta_net": layers(FULL, FULL),
        "no_attention": {**layers(LINEAR, LINEAR), "linear_conv_kernel_dim": 1},
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "usual_epsilon": {"rms_norm_eps": 1e-6},
        "whole_heads": part(1.0, rope_theta=500.0),
    },
    tolerance={"usual_epsilon": 1e-4},
    long=(({}, 320),),
)

OTHERS: dict[str, list[Any]] = {
    **OF_HALVES,
    "layer_types": [[FULL, LINEAR], [FULL, FULL], [LINEAR, LINEAR]],
    "linear_key_head_dim": [4],
    "linear_value_head_dim": [4],
    "linear_num_key_heads": [1],
    "linear_num_value_heads": [2],
    "rms_norm_eps": [0.1],
}
