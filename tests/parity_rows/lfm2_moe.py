from typing import Any

from parity_case import ALL_OF_4, FULL, ONE_OF_4, YARN, Case, layers, rope
from switch_values import Other

CONV = "conv"
CASE = Case(
    "lfm2_moe",
    small={"layer_types": [CONV, FULL], "num_dense_layers": 1, "rope_parameters": rope()},
    variants={
        "biases": {"conv_bias": True},
        "wide_heads": {"head_dim": 12},
        "no_dense_layer": {"num_dense_layers": 0},
        "dense_alone": {"num_dense_layers": 5},
        "one_of_four": ONE_OF_4,
        "all_of_four": ALL_OF_4,
        "no_correction": {"use_expert_bias": False},
        "weights_as_they_are": {"norm_topk_prob": False, "routed_scaling_factor": 1.7},
        "four": layers(CONV, FULL, CONV, CONV),
        "only_attention": layers(FULL, FULL),
        "only_convolutions": layers(CONV, CONV),
        "convolution_of_1": {"conv_L_cache": 1},
        "yarn": {"rope_parameters": YARN},
        "epsilon": {"norm_eps": 0.1},
    },
    must_say=("layer_types",),
)


OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layer_types": [CONV, FULL, CONV]})],
    "layer_types": [[FULL, CONV], [CONV, CONV], [FULL, FULL]],
    "norm_eps": [0.1],
    "conv_L_cache": [4],
    "num_dense_layers": [0, 2],
}
