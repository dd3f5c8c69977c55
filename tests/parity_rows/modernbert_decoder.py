from typing import Any

from parity_case import FULL, NO_ROPE, SLIDING, YARN, Case, layers, near_and_far, rope, windows
from switch_values import Other

CASE = Case(
    "modernbert-decoder",
    small={"num_hidden_layers": 3, "local_attention": 10, **near_and_far(rope(rope_theta=20.0), rope())},
    variants={
        **NO_ROPE,
        "norm_bias": {"norm_bias": True},
        "head_biases": {"classifier_bias": True, "norm_bias": True},
        "no_output_bias": {"decoder_bias": False},
        "other_activations": {"hidden_activation": "silu", "classifier_activation": "relu"},
        "norm_eps": {"norm_eps": 0.1},
        "all_full": layers(FULL, FULL),
        "near_first": layers(SLIDING, FULL, SLIDING),
        "yarn_far": near_and_far(rope(), YARN),
        **windows("local_attention", 2, 3, 34, 128),
    },
    renamed={"rope_theta": "global_rope_theta", "rope_local_base_freq": "local_rope_theta"},
    of_today=("yarn_far",),  # old files stretch both kinds of layers alike
)

OLD = {"rope_parameters": None}
OTHERS: dict[str, list[Any]] = {
    "layer_types": [[FULL, FULL, SLIDING]],
    "local_attention": [6],
    "norm_eps": [0.1],
    "classifier_activation": ["relu"],
    "rope_parameters": [
        {FULL: rope(rope_theta=50.0), SLIDING: rope(rope_theta=20.0)},
        {FULL: rope("yarn", factor=4.0), SLIDING: rope("linear", rope_theta=20.0, factor=4.0)},
    ],
    "max_position_embeddings": [
        Other(1024, given={"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}})
    ],
    "rope_scaling": [Other({"rope_type": "linear", "factor": 4.0}, given=OLD)],
    "global_rope_theta": [Other(50.0, given=OLD)],
    "local_rope_theta": [Other(50.0, given=OLD)],
    "global_attn_every_n_layers": [2],
}
INERT = "initializer_cutoff_factor cls_token_id sep_token_id mlp_dropout"
