from typing import Any

from parity_case import FULL, YARN, Case, layers, rope
from switch_values import Other

CONV = "conv"
CASE = Case(
    "lfm2",
    small={"layer_types": [CONV, FULL], "block_multiple_of": 8, "rope_parameters": rope()},
    variants={
        "biases": {"conv_bias": True},
        "wide_heads": {"head_dim": 12},
        "width_as_it_is": {"block_auto_adjust_ff_dim": False},
        "wider": {"block_ffn_dim_multiplier": 1.7},
        "indices": {"layer_types": None, "full_attn_idxs": [1]},
        "no_word_of_kinds": {"layer_types": None},
        "four": layers(CONV, FULL, CONV, CONV),
        "attention_first": layers(FULL, CONV, CONV),
        "only_attention": layers(FULL, FULL),
        "only_convolutions": layers(CONV, CONV),
        "convolution_of_1": {"conv_L_cache": 1},
        "convolution_of_7": {"conv_L_cache": 7},
        "yarn": {"rope_parameters": YARN},
        "epsilon": {"norm_eps": 0.1},
    },
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layer_types": [CONV, FULL, CONV]})],
    "layer_types": [[FULL, CONV], [CONV, CONV], [FULL, FULL], None],
    "full_attn_idxs": [Other([0], given={"layer_types": None})],
    "norm_eps": [0.1],
    "conv_L_cache": [4, 1],
    "block_multiple_of": [7],
    "block_ffn_dim_multiplier": [1.7],
    "intermediate_size": [40],
}
