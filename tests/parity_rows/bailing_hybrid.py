from typing import Any

from parity_case import DEEPSEEK, FULL, LINEAR, YARN, Case, layers, rope
from switch_values import DEEPSEEK_OTHERS, Other

DENSE, SPARSE = "dense", "sparse"

CASE = Case(
    "bailing_hybrid",
    small={**DEEPSEEK, "q_lora_rank": None, "num_local_experts": 8, "n_group": 4, "topk_group": 2}
    # As in qwen3_next: where a query hardly meets a key, the norm after the delta rule magnifies rounding.
    | {"layer_types": [LINEAR, FULL], "head_dim": 8, "rms_norm_eps": 0.01},
    more=layers(LINEAR, FULL, LINEAR),
    variants={
        **dict.fromkeys(("multi_head", "multi_query", "tied")),  # it has none of these
        "compressed_queries": {"q_lora_rank": 10, "attention_bias": True},
        "no_delta_net": layers(FULL, FULL),
        "no_attention": {**layers(LINEAR, LINEAR), "short_conv_kernel_size": 1},
        "unbounded": {"kda_safe_gate": False},
        "other_bound": {"kda_lower_bound": -1.0},
        "groups_of_two": {"num_hidden_layers": 4, "layer_types": None, "layer_group_size": 2},
        "all_experts": {"first_k_dense_replace": 0, "n_shared_experts": 2},
        "all_dense": {"mlp_layer_types": [DENSE] * 3},
        "dense_last": {"mlp_layer_types": [SPARSE, SPARSE, DENSE]},
        "no_groups": {"n_group": 1, "topk_group": 1},
        "not_normed": {"norm_topk_prob": False},
        "mscale": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.4}},
        "usual_epsilon": {"rms_norm_eps": 1e-6},
    },
    tolerance={"usual_epsilon": 1e-4},
    long=(({}, 320),),
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "q_lora_rank": [14],
    "layer_types": [[FULL, LINEAR], [FULL, FULL], [LINEAR, LINEAR]],
    "layer_group_size": [Other(1, given={"layer_types": None})],
    "short_conv_kernel_size": [3],
    "head_dim": [4],
    "linear_num_heads": [Other(4, same=True), 2],
    "kda_safe_gate": [False],
    "kda_lower_bound": [-1.0],
    "mlp_layer_types": [[SPARSE, DENSE]],
    "score_function": ["softmax"],
    "num_local_experts": [12],
    "num_hidden_layers": [Other(3, also={"layer_types": [LINEAR, FULL, LINEAR]})],
    "n_group": [Other(1, given={"topk_group": 1})],
    "topk_group": [1],
    "tie_word_embeddings": [Other(True, same=True)],
    "rope_theta": [Other(50.0, given={"rope_parameters": None, "rope_theta": 100.0})],
    "rope_parameters": [rope(rope_theta=50.0), rope("yarn", factor=4.0)],
}
INERT = "mtp_loss_scaling_factor"
