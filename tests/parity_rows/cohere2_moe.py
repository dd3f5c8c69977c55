from typing import Any

from parity_case import FULL, SLIDING, YARN, Case, layers, rope, windows
from switch_values import Other

SHARED = {"num_shared_experts": 2}
SIGMOID = {"expert_selection_fn": "sigmoid"}
DENSE_FIRST = {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}
CASE = Case(
    "cohere2_moe",
    small={
        "num_hidden_layers": 4,
        "head_dim": 8,
        "sliding_window": 5,
        "num_experts": 4,
        "rope_theta": 100.0,
        **SHARED,
    },
    more=DENSE_FIRST,
    variants={
        **windows("sliding_window", 1, 17, 69, 70, 71),
        "all_sparse": {"mlp_layer_types": ["sparse"] * 4},
        "all_dense": {"mlp_layer_types": ["dense"] * 4, "prefix_dense_intermediate_size": 28},
        "kinds": layers(FULL, SLIDING, FULL) | {"mlp_layer_types": ["dense", "dense", "sparse"]},
        "kinds_without_force": layers(FULL, SLIDING, FULL)
        | {"mlp_layer_types": ["dense", "dense", "sparse"], "prefix_dense_sliding_window_pattern": 2},
        "every_second": {"sliding_window_pattern": 2},
        "sum": {"shared_expert_combination_strategy": "sum"},
        "none_shared": {"num_shared_experts": 0},
        "sigmoid": SIGMOID,
        "sigmoid_not_normed": {**SIGMOID, "norm_topk_prob": False},
        "rms_norm": {"rms_norm_eps": 0.01},
        "epsilon": {"layer_norm_eps": 0.1},
        "linear": {"rope_parameters": rope("linear", factor=4.0)},
        "yarn": {"rope_parameters": YARN},
    },
    of_today=("linear", "yarn"),  # what old files would say of them is not read
)

OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [5],
    "layer_types": [[FULL, SLIDING, SLIDING, FULL]],
    "mlp_layer_types": [["sparse", "dense", "sparse", "sparse"]],
    "first_k_dense_replace": [1, 2],
    "prefix_dense_intermediate_size": [Other(28, given=DENSE_FIRST)],
    "prefix_dense_sliding_window_pattern": [
        Other(2, given={"layer_types": [FULL, SLIDING, SLIDING, FULL], **DENSE_FIRST}),
        Other(2, given={"first_k_dense_replace": 3}),
    ],
    "sliding_window": [3],  # the model of transformers cannot run without one
    "sliding_window_pattern": [1, 2],
    "num_shared_experts": [0, 1],
    "shared_expert_combination_strategy": ["sum", "none"],
    "expert_selection_fn": ["sigmoid", "tanh"],
    "norm_topk_prob": [Other(False, given=SIGMOID)],
    "rms_norm_eps": [0.1],
    "rope_scaling": [{"type": "linear", "factor": 4.0}],
    "rope_theta": [50.0],
    "rope_parameters": [rope(rope_theta=50.0), YARN, rope(partial_rotary_factor=0.5)],
    "max_position_embeddings": [Other(1024, given={"rope_parameters": YARN}, same=True)],
    "original_max_position_embeddings": [Other(32, given={"rope_parameters": YARN})],
    "num_experts": [3],
}
