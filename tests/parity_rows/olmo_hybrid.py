from typing import Any

from parity_case import FULL, LINEAR, Case, layers
from switch_values import OLD, ROPES, Other

CASE = Case(
    "olmo_hybrid",
    # The norm after the delta rule makes rounding large where a query hardly meets a key: in float32,
    # transformers' chunks are as far from the definition in float64 as ours, up to 4e-5 in three such layers.
    small={"layer_types": [LINEAR, FULL], "linear_key_head_dim": 32, "linear_num_key_heads": 2}
    | {"linear_num_value_heads": 4, "linear_value_head_dim": 8, "rms_norm_eps": 0.01},
    more={"linear_value_head_dim": 16},
    variants={
        "published": {"rope_parameters": {"rope_type": "default", "rope_theta": None}},
        "four": {**layers(LINEAR, LINEAR, LINEAR, FULL), "rms_norm_eps": 0.1},
        "full_first": layers(FULL, LINEAR, FULL),
        "heads_alike": {"linear_num_key_heads": 4, "linear_value_head_dim": 8},
        "sizes_by_default": {
            "linear_key_head_dim": None, "linear_num_key_heads": None, "linear_num_value_heads": None
        },
        "one_key_head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
        "convolution_of_1": {"linear_conv_kernel_dim": 1},
        "beta_to_1": {"linear_allow_neg_eigval": False},
    },
    of_today=("published",),  # a base of null is no base in old files
    tolerance={"four": 4e-5},
    long=(({}, 320),),
)  # fmt: skip

OTHERS: dict[str, list[Any]] = {
    "layer_types": [[FULL, LINEAR]],
    "num_hidden_layers": [Other(3, also={"layer_types": [LINEAR, FULL, LINEAR]})],
    "linear_key_head_dim": [4],
    "rms_norm_eps": [0.1],
    "linear_value_head_dim": [4],
    "linear_num_key_heads": [1],
    "linear_num_value_heads": [2],
    "rope_parameters": [*ROPES, {"rope_type": "default", "rope_theta": None}],
    "rope_theta": [Other(50.0, given=OLD), Other(None, given=OLD)],
    "rope_scaling": [Other({"rope_type": "linear", "factor": 4.0}, given=OLD)],
}
INERT = "linear_a_log_min linear_a_log_max linear_dt_min linear_dt_max linear_dt_init_floor"
