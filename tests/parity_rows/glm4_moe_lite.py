from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, YARN, Case
from switch_values import DEEPSEEK_OTHERS

LITE = {key: value for key, value in DEEPSEEK.items() if key != "first_k_dense_replace"}
DENSE, SPARSE = "dense", "sparse"

CASE = Case(
    "glm4_moe_lite",
    small={**LITE, "n_routed_experts": 8, "n_group": 4, "topk_group": 2},
    more={"num_hidden_layers": 3},
    variants={
        **DEEPSEEKS,
        "all_experts": {"mlp_layer_types": [SPARSE] * 3, "n_shared_experts": 2},
        "all_dense": {"mlp_layer_types": [DENSE] * 3},
        "dense_last": {"mlp_layer_types": [SPARSE, SPARSE, DENSE]},
        "one_layer": {"num_hidden_layers": 1},
        "one_group": {"topk_group": 1},
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
        "not_normed": {"norm_topk_prob": False},
        "halves": {"rope_interleave": False, "rope_parameters": YARN},
    },
    old={"topk_method": "noaux_tc", "moe_layer_freq": 1, "first_k_dense_replace": 1}
    | {"partial_rotary_factor": 1.0, "head_dim": None},
    buffers=tuple(f"model.layers.47.{name}.weight" for name in ("eh_proj", "shared_head.norm")),
    of_today=("all_experts", "all_dense", "dense_last"),  # old files had the first layer dense
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "first_k_dense_replace": [2],
    "mlp_layer_types": [[SPARSE, DENSE]],
    "moe_layer_freq": [2],
    "n_routed_experts": [12],
    "n_group": [2],
    "topk_group": [1],
}
