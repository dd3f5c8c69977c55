from typing import Any

from parity_case import Case

CASE = Case(
    "ernie4_5_moe",
    small={"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1},
    more={"num_hidden_layers": 3},
    variants={
        "biases": {"use_bias": True},
        "biases_untied": {"use_bias": True, "tie_word_embeddings": False},
        "none_shared": {"moe_num_shared_experts": 0},
        "two_shared": {"moe_num_shared_experts": 2},
        "every_second": {"moe_layer_interval": 2, "moe_layer_start_index": 0, "num_hidden_layers": 4},
        "in_the_middle": {"moe_layer_end_index": 1},
        "all_experts": {"moe_layer_start_index": 0},
        "all_dense": {"moe_layer_start_index": 3},
        "small_weights": {"moe_norm_min": 0.9, "moe_k": 1},
        "wide_heads": {"head_dim": 12},
    },
    old={"moe_gate": "topk", "moe_use_aux_free": True, "moe_capacity": [64, 64, 64]},
    renamed={"moe_num_experts": "num_experts", "moe_k": "num_experts_per_tok"},
)

OTHERS: dict[str, list[Any]] = {
    "use_bias": [True],
    "moe_num_experts": [3],
    "moe_k": [1],
    "moe_num_shared_experts": [2, 0],
    "moe_layer_start_index": [0],
    "moe_layer_end_index": [0],
    "moe_layer_interval": [3],
    "moe_norm_min": [0.9],
}
