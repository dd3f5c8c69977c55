from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, GROUPS, YARN, Case
from switch_values import DEEPSEEK_OTHERS, ROUTES, Other

CASE = Case(
    "deepseek_v2",
    small=DEEPSEEK,
    more={"num_hidden_layers": 3, "n_routed_experts": 12, "num_experts_per_tok": 3},
    variants={
        **DEEPSEEKS,
        "groups": {**GROUPS, "rope_parameters": YARN, "routed_scaling_factor": 16.0},
        "one_group": {**GROUPS, "topk_group": 1, "routed_scaling_factor": 2.5},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "biases_of_plain_queries": {"attention_bias": True, "q_lora_rank": None},
    },
    old={"scoring_func": "softmax", "moe_layer_freq": 1, "ep_size": 1, "seq_aux": True, "head_dim": None},
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "topk_method": [Other("group_limited_greedy", given={**ROUTES, "topk_method": "greedy"})],
    "n_group": [Other(2, given=ROUTES)],
    "topk_group": [Other(2, given=ROUTES)],
}
