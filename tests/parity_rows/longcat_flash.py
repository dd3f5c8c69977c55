from typing import Any

from parity_case import DEEPSEEKS, Case
from switch_values import DEEPSEEK_OTHERS, Other

CASE = Case(
    "longcat_flash",
    small={
        "num_layers": 1,
        "ffn_hidden_size": 20,
        "expert_ffn_hidden_size": 12,
        "kv_lora_rank": 12,
        "q_lora_rank": 10,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "head_dim": 4,
        "v_head_dim": 6,
        "num_key_value_heads": 4,
        "n_routed_experts": 5,
        "zero_expert_num": 3,
        "moe_topk": 3,
    },
    more={"num_layers": 2},
    variants={
        **{name: keys for name, keys in DEEPSEEKS.items() if "mscale" in name or keys is None},
        "all_chosen": {"moe_topk": 8},
        "no_zero_experts": {"zero_expert_num": 0},
        "mostly_zero_experts": {"n_routed_experts": 1, "zero_expert_num": 6},
        "factor": {"routed_scaling_factor": 1.5},
    },
    old={"attention_method": "MLA", "zero_expert_type": "identity", "mla_scale_q_lora": True},
)

OF_OTHERS = ("first_k_dense_replace", "n_shared_experts")
OTHERS: dict[str, list[Any]] = {
    key: values for key, values in DEEPSEEK_OTHERS.items() if key not in OF_OTHERS
} | {
    "expert_ffn_hidden_size": [16],
    "ffn_hidden_size": [28],
    "head_dim": [6],
    "moe_topk": [2],
    "n_routed_experts": [4],
    "num_layers": [2],
    "q_lora_rank": [14],
    "qk_head_dim": [Other(12, same=True), 14],
    "qk_rope_head_dim": [Other(8, also={"head_dim": 8})],
    "zero_expert_num": [2],
    "zero_expert_type": ["constant"],
}
