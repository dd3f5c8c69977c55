from typing import Any

from parity_case import FULL, SLIDING, Case, layers, windows
from switch_values import Other

CASE = Case(
    "exaone_moe",
    small={"sliding_window": 5, "sliding_window_pattern": 2, "num_experts": 8, "n_group": 4, "topk_group": 2}
    | {"moe_intermediate_size": 12, "num_shared_experts": 1},
    more={"num_hidden_layers": 3},
    variants={
        "no_groups": {"n_group": 1, "topk_group": 1, "num_shared_experts": 2},
        "not_normed": {"norm_topk_prob": False, "routed_scaling_factor": 1.0},
        "all_experts": {"first_k_dense_replace": 0},
        "all_dense": {"first_k_dense_replace": 3},
        "named": {"mlp_layer_types": ["sparse", "dense", "sparse"]},
        "all_full": {"sliding_window_pattern": 1},
        "letters": {"sliding_window_pattern": "LGL", **layers(SLIDING, FULL, SLIDING)},
        "wide_heads": {"head_dim": 12},
        **windows("sliding_window", 1, 17, 64),
    },
    old={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "num_nextn_predict_layers": 1},
    buffers=("mtp.layers.0.input_layernorm.weight",),
)

OTHERS: dict[str, list[Any]] = {
    "sliding_window": [3],
    "sliding_window_pattern": [1],
    "layer_types": [[FULL, SLIDING]],
    "mlp_layer_types": [["sparse", "dense"]],
    "first_k_dense_replace": [0],
    "num_shared_experts": [2],
    "num_experts": [12],
    "n_group": [Other(2, given={"topk_group": 1})],
    "topk_group": [1],
}
