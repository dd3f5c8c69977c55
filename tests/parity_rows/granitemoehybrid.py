from typing import Any

from parity_case import FULL, GRANITE, LIMITS, LINEAR, NO_MULTIPLIERS, NO_ROPE, WITH_ROPE, YARN, Case, layers
from switch_values import OLD, ROPES, YARN_IN_ROPE, Other

CASE = Case(
    "granitemoehybrid",
    small={"layer_types": [LINEAR, FULL], "mamba_n_heads": 4, "mamba_d_state": 4},
    more={**GRANITE, "mamba_chunk_size": 16},
    variants={
        **NO_ROPE,
        # Without rotations, a bias on the keys moves all scores of a query alike and changes nothing.
        "attention_bias": {"attention_bias": True, **WITH_ROPE},
        "all_biases": {"attention_bias": True, "mamba_proj_bias": True, **WITH_ROPE},
        "no_experts": {"num_local_experts": 0, "num_experts_per_tok": 0},  # H-350M, H-1B, H-Micro
        "no_mamba": {"layer_types": [FULL, FULL], **WITH_ROPE},  # 350M, 1B, Micro
        "four": layers(LINEAR, FULL, LINEAR, LINEAR),
        "attention_first": layers(FULL, LINEAR, LINEAR),
        "attention_last": layers(LINEAR, LINEAR, FULL),
        "only_attention": layers(FULL, FULL),
        "only_mamba": layers(LINEAR, LINEAR),
        "rope": {**WITH_ROPE, "head_dim": 12},
        "rope_yarn": {**WITH_ROPE, "rope_parameters": YARN},
        "two_groups": {"mamba_n_groups": 2},
        "a_group_per_head": {"mamba_n_groups": 4},
        "wide_mamba_heads": {"mamba_n_heads": 2, "mamba_d_head": 32},
        "three_times_as_wide": {"mamba_expand": 3, "mamba_n_heads": 6, "mamba_n_groups": 3},
        "convolution_of_2": {"mamba_d_conv": 2, "mamba_chunk_size": 256},
        "convolution_of_1": {"mamba_d_conv": 1},
        "no_convolution_bias": {"mamba_conv_bias": False},
        "no_multipliers": NO_MULTIPLIERS,
        **LIMITS,
    },
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layer_types": [LINEAR, FULL, LINEAR]})],
    "layer_types": [[FULL, LINEAR], [LINEAR, LINEAR], [FULL, FULL]],
    "num_local_experts": [3, Other(0, also={"num_experts_per_tok": 0})],
    "rope_theta": [Other(50.0, given={**OLD, "position_embedding_type": "rope"})],
    "rope_scaling": [
        Other({"type": "linear", "factor": 4.0}, given={**OLD, "position_embedding_type": "rope"})
    ],
    "position_embedding_type": [Other("nope", same=True), "rope"],
    "rope_parameters": [Other(numbers, given={"position_embedding_type": "rope"}) for numbers in ROPES],
    "max_position_embeddings": [Other(1024, given=YARN_IN_ROPE)],
    "original_max_position_embeddings": [Other(32, given=YARN_IN_ROPE)],
}
