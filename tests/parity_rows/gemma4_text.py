from typing import Any

from parity_case import (
    FULL,
    NO_ROPE,
    SLIDING,
    VOCABULARY,
    YARN,
    Case,
    layers,
    near_and_far,
    rope,
    windows,
)
from switch_values import Other

FOUR = layers(SLIDING, FULL, SLIDING, FULL)
FAR = {"global_head_dim": 16}
FEW = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 12}
EXPERTS = {"enable_moe_block": True, **FEW}

CASE = Case(
    "gemma4_text",
    # What a small model makes of a layer's input is near 0, and its norm makes rounding large.
    small={"rms_norm_eps": 0.01, "head_dim": 8, "sliding_window": 5, "layer_types": [SLIDING, FULL], **FAR}
    | {"hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": VOCABULARY}
    | near_and_far(rope(), rope("proportional", partial_rotary_factor=0.5)),
    variants={
        **NO_ROPE,
        "shared": {**FOUR, "num_kv_shared_layers": 2, "rms_norm_eps": 0.1},
        "wide_shared": {**FOUR, "num_kv_shared_layers": 2, "use_double_wide_mlp": True},
        "last_shared": {**layers(FULL, SLIDING, FULL), "num_kv_shared_layers": 1, "rms_norm_eps": 0.1},
        "no_inputs": {"hidden_size_per_layer_input": 0},
        "keys_as_values": {"attention_k_eq_v": True, "num_global_key_value_heads": 1},
        "keys_as_values_alike": {"attention_k_eq_v": True},
        "experts": EXPERTS,
        "all_experts": {**EXPERTS, "top_k_experts": 4, "hidden_size_per_layer_input": 0},
        "last_is_full": layers(SLIDING, SLIDING),
        "all_full": layers(FULL, FULL),
        "logits_capped": {"final_logit_softcapping": 5.0},
        **windows("sliding_window", 1, 17, 64),
    },
)

OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layer_types": [SLIDING, SLIDING, FULL]})],
    "layer_types": [[FULL, FULL]],
    "sliding_window": [3],
    "rope_parameters": [
        {SLIDING: rope(rope_theta=50.0), FULL: rope("proportional", partial_rotary_factor=0.25)},
        {SLIDING: rope("linear", factor=4.0), FULL: YARN},
    ],
    "final_logit_softcapping": [3.0],
    "use_bidirectional_attention": ["all", Other("vision", same=True)],
    "vocab_size_per_layer_input": [VOCABULARY + 1],
    "hidden_size_per_layer_input": [8, 0],
    "attention_k_eq_v": [True],
    "num_kv_shared_layers": [Other(2, given=FOUR)],
    "use_double_wide_mlp": [Other(True, given={**FOUR, "num_kv_shared_layers": 2})],
    "enable_moe_block": [Other(True, given=FEW)],
    "num_experts": [Other(3, given=EXPERTS)],
    "top_k_experts": [Other(1, given=EXPERTS)],
    "moe_intermediate_size": [Other(16, given=EXPERTS)],
    "global_head_dim": [8],
    "num_global_key_value_heads": [Other(1, given={"attention_k_eq_v": True})],
    "per_layer_config": [{"1": {"num_attention_heads": 2}}],
}
INERT = "max_position_embeddings"  # but for dynamic NTK, whose logits depend on the length of a piece
