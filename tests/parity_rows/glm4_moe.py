from typing import Any

from parity_case import FACTORS, Case, part
from switch_values import OF_HALVES

CASE = Case(
    "glm4_moe",
    small={"n_routed_experts": 8, "n_group": 4, "topk_group": 2, **part(0.5)},
    more={"num_hidden_layers": 3},
    variants={
        "normed_queries": {"use_qk_norm": True, "attention_bias": True},
        "wide_heads": {"head_dim": 20, "use_qk_norm": True},
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
        "not_normed": {"norm_topk_prob": False, "routed_scaling_factor": 2.5},
        "all_experts": {"first_k_dense_replace": 0},
        "all_dense": {"first_k_dense_replace": 3},
        "whole_heads": part(1.0),
        "llama3": part(0.5, "llama3", **FACTORS),
    },
    old={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "num_nextn_predict_layers": 1},
    buffers=tuple(f"model.layers.46.{name}.weight" for name in ("eh_proj", "shared_head.norm")),
)

OTHERS: dict[str, list[Any]] = OF_HALVES | {
    "n_routed_experts": [12],
    "n_group": [2],
    "topk_group": [1],
    "first_k_dense_replace": [0],
    "n_shared_experts": [2],
    "head_dim": [12],
}
