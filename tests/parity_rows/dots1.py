from typing import Any

from parity_case import FULL, SLIDING, Case, layers
from switch_values import Other

CASE = Case(
    "dots1",
    small={"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "n_shared_experts": 1}
    | {"first_k_dense_replace": 1, "sliding_window": None, "moe_intermediate_size": 12},
    more={"num_hidden_layers": 3},
    variants={
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2, "norm_topk_prob": True},
        "factor": {"norm_topk_prob": True, "routed_scaling_factor": 2.5},
        "wide_heads": {"head_dim": 12},
        "all_experts": {"first_k_dense_replace": 0},
        "all_dense": {"first_k_dense_replace": 3},
        "windows_at_the_end": {"sliding_window": 5, "max_window_layers": 1},
        "windows_named": {"sliding_window": 17, **layers(SLIDING, FULL, SLIDING)},
        "window_not_used": {"sliding_window": 5},
    },
    old={"scoring_func": "noaux_tc"},
)

OTHERS: dict[str, list[Any]] = {
    "n_routed_experts": [12],
    "n_group": [Other(2, given={"topk_group": 1})],
    "topk_group": [1],
    "first_k_dense_replace": [0],
    "n_shared_experts": [2],
    "sliding_window": [Other(3, given={"max_window_layers": 1})],
    "max_window_layers": [Other(1, given={"sliding_window": 5})],
    "layer_types": [Other([SLIDING, FULL], given={"sliding_window": 5})],
}
