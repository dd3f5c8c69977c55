from typing import Any

from parity_case import Case, rope
from switch_values import Other

ALPHA = rope("dynamic", alpha=50.0, factor=1.0)

CASE = Case(
    "hunyuan_v1_moe",
    small={"head_dim": 8, "moe_topk": 2},
    variants={
        "alpha": {"rope_parameters": ALPHA},
        "alpha_of_wide_heads": {"rope_parameters": ALPHA, "head_dim": 12, "tie_word_embeddings": True},
        "counts_by_layer": {"moe_topk": [3, 1]},
        "one_of_one": {"num_experts": 1, "moe_topk": 1},
        "all_of_them": {"moe_topk": 4},
        "every_query_has_its_key": {"num_key_value_heads": None},
    },
    old={"use_qk_norm": True, "use_cla": False, "num_shared_expert": [1, 1], "use_mixed_mlp_moe": True}
    | {"moe_intermediate_size": [20, 20], "norm_topk_prob": True},
    must_say=("head_dim",),
)

OTHERS: dict[str, list[Any]] = {
    "moe_topk": [1, [2, 1]],
    "rope_parameters": [rope(rope_theta=50.0), rope("yarn", factor=4.0), ALPHA, {**ALPHA, "alpha": 7.0}],
    "rope_scaling": [
        Other(
            {"type": "dynamic", "alpha": 50.0, "factor": 1.0},
            given={"rope_parameters": None, "rope_theta": 100.0},
        )
    ],
}
INERT = "eod_token_id sep_token_id"
