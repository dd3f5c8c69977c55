from typing import Any

from parity_case import LIMITS, Case, part, rope
from switch_values import ROPES

CASE = Case(
    "bamba",
    small={"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_state": 4, "rope_parameters": rope()},
    more={"mamba_chunk_size": 16},
    variants={
        "all_biases": {"attention_bias": True, "mamba_proj_bias": True, "mlp_bias": True},
        "wide_heads": {"head_dim": 12},
        "four": {"attn_layer_indices": [1, 3], "num_hidden_layers": 4},
        "attention_first": {"attn_layer_indices": [0]},
        "only_attention": {"attn_layer_indices": [0, 1]},
        "only_mamba": {"attn_layer_indices": []},
        "no_word_of_layers": {"attn_layer_indices": None},
        "quarter_of_heads": part(0.25),
        "whole_heads": part(1.0),
        "two_groups": {"mamba_n_groups": 2},
        "wide_mamba_heads": {"mamba_n_heads": 2, "mamba_d_head": 32},
        "three_times_as_wide": {"mamba_expand": 3, "mamba_n_heads": 6, "mamba_n_groups": 3},
        "convolution_of_1": {"mamba_d_conv": 1},
        "no_convolution_bias": {"mamba_conv_bias": False},
        **LIMITS,
    },
    of_today=("quarter_of_heads", "whole_heads"),  # beside the others, the key is not read
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    "attn_layer_indices": [[0], [], None],
    "rope_parameters": [*ROPES, rope(partial_rotary_factor=0.25)],
}
INERT = "z_loss_coefficient"
