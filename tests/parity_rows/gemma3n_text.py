from typing import Any

from parity_case import FULL, NO_ROPE, SLIDING, VOCABULARY, YARN, Case, layers, near_and_far, rope, windows
from switch_values import OLD, Other

FOUR = layers(SLIDING, FULL, SLIDING, FULL)

CASE = Case(
    "gemma3n_text",
    # What a small model makes of a layer's input is near 0, and its norm makes rounding large.
    small={"rms_norm_eps": 0.01, "head_dim": 8, "sliding_window": 5, "layer_types": [SLIDING, FULL]}
    | {"hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": VOCABULARY - 9, "laurel_rank": 5}
    | {"num_kv_shared_layers": 0, "altup_num_inputs": 3, "final_logit_softcapping": 5.0}
    | near_and_far(rope(rope_theta=20.0), rope()),
    variants={
        **NO_ROPE,
        "shared": {**FOUR, "num_kv_shared_layers": 2, "rms_norm_eps": 0.1},
        "sparse": {"activation_sparsity_pattern": [0.6, 0.0]},
        "sparse_by_default": {**layers(*[SLIDING, FULL] * 5, FULL), "rms_norm_eps": 0.1},
        "widths": {"intermediate_size": [20, 28]},
        "other_vector": {"altup_active_idx": 1},
        "one_vector": {"altup_num_inputs": 1},
        "not_scaled": {"altup_correct_scale": False},
        "all_full": layers(FULL, FULL),
        "yarn_far": near_and_far(rope(), YARN),
        **windows("sliding_window", 1, 17, 64),
    },
)

FAR = {"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}}
OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layer_types": [SLIDING, FULL, FULL]})],
    "layer_types": [[FULL, FULL]],
    "sliding_window": [3],
    "rope_parameters": [
        {FULL: rope(rope_theta=50.0), SLIDING: rope(rope_theta=20.0)},
        {FULL: rope("yarn", factor=4.0), SLIDING: rope("linear", rope_theta=20.0, factor=4.0)},
    ],
    "max_position_embeddings": [Other(1024, given=FAR)],
    "original_max_position_embeddings": [Other(32, given=FAR, same=True)],
    "rope_scaling": [Other({"rope_type": "linear", "factor": 4.0}, given=OLD)],
    "final_logit_softcapping": [3.0],
    "vocab_size_per_layer_input": [VOCABULARY],
    "hidden_size_per_layer_input": [8],
    "altup_active_idx": [1],
    "altup_num_inputs": [2],
    "num_kv_shared_layers": [Other(2, given=FOUR)],
    "laurel_rank": [3],
    "activation_sparsity_pattern": [[0.5, 0.9]],
}
INERT = "altup_coef_clip"
