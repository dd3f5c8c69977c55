from typing import Any

from parity_case import FULL, LINEAR, Case, layers, part
from switch_values import OF_HALVES, Other

CASE = Case(
    "qwen3_next",
    small={"head_dim": 8, **part(0.5), "full_attention_interval": 2}
    | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    # After the delta rule each head's result is normed. Where a query hardly meets a key there is little
    # to norm, and the usual 1e-6 makes rounding large: transformers' own two forms then differ by 3e-5.
    | {"linear_num_value_heads": 4, "rms_norm_eps": 0.01},
    more={"linear_value_head_dim": 12},
    buffers=("mtp.fc.weight",),
    variants={
        "heads_alike": {"linear_num_value_heads": 2, "linear_value_head_dim": 8},
        "one_key_head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
        "four": {**layers(FULL, LINEAR, FULL, LINEAR), "rms_norm_eps": 0.1},
        "no_delta_net": layers(FULL, FULL),
        "no_attention": {**layers(LINEAR, LINEAR), "linear_conv_kernel_dim": 1},
        "dense_layers": {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
        "not_normed": {"norm_topk_prob": False},
        "usual_epsilon": {"rms_norm_eps": 1e-6},
        "whole_heads": part(1.0, rope_theta=500.0),
    },
    tolerance={"usual_epsilon": 1e-4},
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    **OF_HALVES,
    "intermediate_size": [Other(28, given={"mlp_only_layers": [0]})],
    "layer_types": [[FULL, LINEAR], [FULL, FULL], [LINEAR, LINEAR]],
    "linear_key_head_dim": [4],
    "linear_value_head_dim": [4],
    "linear_num_key_heads": [1],
    "linear_num_value_heads": [2],
    "rms_norm_eps": [0.1],
}
