from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, Case
from switch_values import DEEPSEEK_OTHERS, Other

DENSE, SPARSE = "dense", "sparse"
# With so many heads no key is disliked by all: among exact zeros transformers' choice is arbitrary.
INDEX = {"index_n_heads": 16, "index_head_dim": 8, "index_topk": 4}

CASE = Case(
    "glm_moe_dsa",
    small={**DEEPSEEK, **INDEX, "n_routed_experts": 8, "n_group": 4, "topk_group": 2},
    more={"num_hidden_layers": 3},
    variants={
        **{name: keys for name, keys in DEEPSEEKS.items() if name != "plain_queries"},
        "all_dense": {"mlp_layer_types": [DENSE] * 3},
        "dense_last": {"mlp_layer_types": [SPARSE, SPARSE, DENSE]},
        "one_layer": {"num_hidden_layers": 1},
        "one_key": {"index_topk": 1},
        "more_keys": {"index_topk": 20, "index_head_dim": 9},
        "all_keys": {"index_topk": 2048},
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
        "shared": {"indexer_types": ["full", "shared", "shared"]},
        "shared_last": {"indexer_types": ["full", "full", "shared"], "index_topk": 9},
        "shared_by_none": {"indexer_types": ["full", "shared", "full"]},
        "not_normed": {"norm_topk_prob": False},
    },
    old={"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1, "ep_size": 1},
    buffers=tuple(f"model.layers.78.{name}.weight" for name in ("eh_proj", "shared_head.norm")),
    of_today=("dense_last", "shared", "shared_last", "shared_by_none"),
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "q_lora_rank": [14],
    "index_n_heads": [17],
    "index_head_dim": [12],
    "index_topk": [2],
    "layer_types": [Other(["full_attention", "indexed_attention"], same=True)],  # of its cache alone
    "indexer_types": [["full", "shared"]],
    "index_topk_pattern": ["FS"],
    "index_topk_freq": [Other(2, given={"index_skip_topk_offset": 1})],
    "index_skip_topk_offset": [Other(1, given={"index_topk_freq": 2})],
    "mlp_layer_types": [[SPARSE, DENSE]],
    "moe_layer_freq": [2],
    "rope_interleave": [False],
    "n_routed_experts": [12],
    "n_group": [Other(2, given={"topk_group": 1})],
    "topk_group": [1],
}
INERT = "head_dim mlp_bias"
