from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, YARN, Case
from switch_values import DEEPSEEK_OTHERS, Other

CASE = Case(
    "deepseek_v3",
    small={**DEEPSEEK, "n_routed_experts": 8, "n_group": 4, "topk_group": 2},
    more={"num_hidden_layers": 3},
    variants={
        **DEEPSEEKS,
        "one_group": {"topk_group": 1},
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
        "not_normed": {"norm_topk_prob": False},
        "halves": {"rope_interleave": False, "rope_parameters": YARN},
    },
    old={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1, "ep_size": 1}
    | {"head_dim": None},
    buffers=tuple(f"model.layers.61.{name}.weight" for name in ("eh_proj", "shared_head.norm")),
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "head_dim": [Other(4, same=True), 6],
    "n_routed_experts": [12],
    "n_group": [2],
    "topk_group": [1],
}
