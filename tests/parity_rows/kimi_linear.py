from typing import Any

from parity_case import DEEPSEEK, FULL, LINEAR, Case, layers
from switch_values import DEEPSEEK_OTHERS, Other

LATENT = {
    key: value for key, value in DEEPSEEK.items() if key not in ("first_k_dense_replace", "q_lora_rank")
}
DENSE, SPARSE = "dense", "sparse"

CASE = Case(
    "kimi_linear",
    small={**LATENT, "num_local_experts": 8, "n_group": 4, "topk_group": 2, "layer_types": [LINEAR, FULL]}
    # As in qwen3_next: where a query hardly meets a key, the norm after the delta rule magnifies rounding.
    | {"linear_num_heads": 3, "linear_head_dim": 8, "rms_norm_eps": 0.01},
    more=layers(LINEAR, FULL, LINEAR),
    variants={
        **dict.fromkeys(("multi_head", "multi_query", "wide_heads")),  # it has none of these
        "tied": None,  # it never is
        "compressed_queries": {"q_lora_rank": 10},
        "no_delta_net": layers(FULL, FULL),
        "no_attention": {**layers(LINEAR, LINEAR), "linear_conv_kernel_dim": 1},
        "usual_layers": {"num_hidden_layers": 5, "layer_types": None},
        "all_experts": {"mlp_layer_types": [SPARSE] * 3, "n_shared_experts": 2},
        "all_dense": {"mlp_layer_types": [DENSE] * 3},
        "dense_last": {"mlp_layer_types": [SPARSE, SPARSE, DENSE]},
        "no_groups": {"n_group": 1, "topk_group": 1},
        "not_normed": {"norm_topk_prob": False},
        "usual_epsilon": {"rms_norm_eps": 1e-5},
    },
    tolerance={"usual_epsilon": 1e-4},
    long=(({}, 320),),
)

OTHERS: dict[str, list[Any]] = {
    key: values for key, values in DEEPSEEK_OTHERS.items() if key != "first_k_dense_replace"
} | {
    "first_k_dense_replace": [0],
    "q_lora_rank": [14],
    "layer_types": [[FULL, LINEAR], [FULL, FULL], [LINEAR, LINEAR]],
    "linear_conv_kernel_dim": [3],
    "linear_head_dim": [4],
    "linear_num_heads": [2],
    "mla_use_nope": [False],
    "mlp_layer_types": [[SPARSE, DENSE]],
    "moe_layer_freq": [2],
    "moe_router_activation_func": ["softmax"],
    "num_local_experts": [12],
    "num_hidden_layers": [Other(3, also={"layer_types": [LINEAR, FULL, LINEAR]})],
    "n_group": [Other(2, given={"topk_group": 1})],
    "topk_group": [1],
    "tie_word_embeddings": [Other(True, same=True)],
}
INERT = "max_position_embeddings"
