from typing import Any

from parity_case import ALL_OF_4, ONE_OF_1, ONE_OF_4, Case, part
from switch_values import OF_HALVES, Other

CASE = Case(
    "minimax_m2",
    small={"head_dim": 8, **part(0.5)},
    variants={
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "one_of_one": ONE_OF_1,
        "many": {"num_local_experts": 24, "num_experts_per_tok": 6, "intermediate_size": 8},
        "whole_heads": part(1.0),
    },
    old={"use_qk_norm": True, "qk_norm_type": "per_layer", "scoring_func": "sigmoid", "use_mtp": True}
    | {"use_routing_bias": True, "shared_intermediate_size": 0, "attn_type_list": [1, 1]},
    renamed={"num_local_experts": "num_experts"},
    buffers=tuple(f"model.layers.6{i}.self_attn.q_proj.weight" for i in (2, 3, 4)),
)

ROTARY_DIM = {"rope_parameters": None, "rope_theta": 100.0}
OTHERS: dict[str, list[Any]] = {
    **OF_HALVES,
    "attn_type_list": [[1, 0]],
    "qk_norm_type": ["per_head"],
    "rotary_dim": [Other(4, given=ROTARY_DIM), Other(2, given={**ROTARY_DIM, "rotary_dim": 4})],
    "scoring_func": ["softmax"],
    "shared_intermediate_size": [16],
}
