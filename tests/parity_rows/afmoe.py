from typing import Any

from parity_case import FULL, SLIDING, Case, layers, windows

CASE = Case(
    "afmoe",
    small={"sliding_window": 5, "global_attn_every_n_layers": 2, "head_dim": 8, "num_shared_experts": 1},
    more={"num_hidden_layers": 3},
    variants={
        "embeddings_scaled": {"mup_enabled": True},
        "scaled_and_tied": {"mup_enabled": True, "tie_word_embeddings": True},
        "factor": {"route_scale": 2.5, "num_shared_experts": 2},
        "all_full": {"global_attn_every_n_layers": 1},
        "all_windows": layers(SLIDING, SLIDING),
        "full_first": layers(FULL, SLIDING, SLIDING),
        "all_experts": {"num_dense_layers": 0},
        "all_dense": {"num_dense_layers": 3},
        "every_query_has_its_key": {"num_key_value_heads": None},
        **windows("sliding_window", 1, 17, 64),
    },
    old={"score_func": "sigmoid", "route_norm": True, "n_group": 1, "topk_group": 1}
    | {"load_balance_coeff": 0.001, "num_expert_groups": 1, "num_limited_groups": 1},
)

OTHERS: dict[str, list[Any]] = {
    "global_attn_every_n_layers": [1],
    "sliding_window": [3],
    "num_dense_layers": [0],
    "num_shared_experts": [2],
    "route_scale": [2.5],
    "score_func": ["softmax"],
    "n_group": [2],
    "topk_group": [2],
    "mup_enabled": [True],
}
