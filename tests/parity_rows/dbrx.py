from typing import Any

from parity_case import Case, dbrx

CASE = Case(
    "dbrx",
    small=dbrx(),
    variants={
        "tied": None,
        "clipped": dbrx({"clip_qkv": 0.7}),
        "multi_head": dbrx({"kv_n_heads": 4}),
        "multi_query": dbrx({"kv_n_heads": 1}),
        "one": dbrx({}, {"moe_top_k": 1}),
        "all": dbrx({}, {"moe_top_k": 4}),
        "norm_of_2": dbrx({}, {"moe_normalize_expert_weights": 2.0}),
        "not_normed": dbrx({}, {"moe_normalize_expert_weights": None}),
        "gelu": dbrx({}, {"ffn_act_fn": {"name": "gelu"}}),
    },
)

OTHERS: dict[str, list[Any]] = {
    "attn_config.kv_n_heads": [1, 4],
    "ffn_config.ffn_act_fn": [{"name": "relu"}],
    "ffn_config.moe_num_experts": [3],
    "ffn_config.moe_top_k": [1],
    "ffn_config.moe_normalize_expert_weights": [2.0, None],
}
