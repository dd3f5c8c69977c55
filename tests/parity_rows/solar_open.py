from typing import Any

from parity_case import Case

CASE = Case(
    "solar_open",
    small={"head_dim": 8, "n_routed_experts": 8, "n_group": 4, "topk_group": 2},
    variants={
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
        "not_normed": {"norm_topk_prob": False, "routed_scaling_factor": 2.5},
    },
    old={"first_k_dense_replace": 0, "use_qk_norm": False, "partial_rotary_factor": 1.0}
    | {"intermediate_size": 40},
)

OTHERS: dict[str, list[Any]] = {
    "n_routed_experts": [12],
    "n_group": [2],
    "topk_group": [1],
    "n_shared_experts": [2],
    "first_k_dense_replace": [1],
    "use_qk_norm": [True],
}
