from typing import Any

from parity_case import ALL_OF_4, ONE_OF_4, Case
from switch_values import Other

ATTENTION_SECOND = {"attn_layer_period": 2, "attn_layer_offset": 1}
CASE = Case(
    "jamba",
    small={**ATTENTION_SECOND, "mamba_d_state": 4},
    variants={
        "wide_heads": {"head_dim": 12},
        "one_of_three": {"attn_layer_period": 3, "attn_layer_offset": 1, "num_hidden_layers": 3},
        "only_attention": {"attn_layer_period": 1, "attn_layer_offset": 0},
        "only_mamba": {"attn_layer_period": 3, "attn_layer_offset": 2},
        "experts_in_all": {"expert_layer_period": 1, "expert_layer_offset": 0},
        "experts_in_the_first": {"expert_layer_offset": 0},
        "one_expert": {"num_experts": 1, "num_experts_per_tok": 1},
        "one_of_four": ONE_OF_4,
        "all_of_four": ALL_OF_4,
        "biases": {"mamba_proj_bias": True},
        "no_convolution_bias": {"mamba_conv_bias": False},
        "rank": {"mamba_dt_rank": 7},
        "expand": {"mamba_expand": 3},
        "convolution_of_1": {"mamba_d_conv": 1},
        "one_number_per_channel": {"mamba_d_state": 1},
    },
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    "attn_layer_period": [Other(1, also={"attn_layer_offset": 0})],
    "attn_layer_offset": [0],
    "expert_layer_period": [Other(1, also={"expert_layer_offset": 0})],
    "expert_layer_offset": [0],
    "mamba_expand": [3],
    "mamba_dt_rank": [3],
    "sliding_window": [3],
}
INERT = "max_position_embeddings use_mamba_kernels"
