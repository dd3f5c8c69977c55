from typing import Any

from parity_case import LONGROPE, NO_ROPE, Case, rope, windows
from switch_values import Other

FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]}
MSCALES = {"short_mscale": 1.2, "long_mscale": 1.2}
# Texts here are shorter than the original length; test_phimoe.py has longer ones.
STRETCHED = {**LONGROPE, **FACTORS, **MSCALES, "original_max_position_embeddings": 128, "rope_theta": 100.0}
BOTH_BIASES = {"attention_bias": True, "lm_head_bias": True}
CASE = Case(
    "phimoe",
    # With the usual 0.01 there are no competitors in a small model.
    small={"sliding_window": 5, "router_jitter_noise": 0.37},
    more={"max_position_embeddings": 256},
    variants={
        **NO_ROPE,  # it knows another rule
        "longrope": {"rope_parameters": STRETCHED},
        "published": {"rope_parameters": STRETCHED, "sliding_window": 100, **BOTH_BIASES},
        "biases": BOTH_BIASES,
        "tied_with_bias": {"tie_word_embeddings": True, "lm_head_bias": True},
        "wide_heads": {"head_dim": 12},
        "many": {"num_local_experts": 9},
        "no_competitors": {"router_jitter_noise": 0.0},
        "published_noise": {"router_jitter_noise": 0.01},
        "all": {"num_local_experts": 2},
        **windows("sliding_window", 1, 17, None),
    },
)

OTHERS: dict[str, list[Any]] = {
    "head_dim": [12],
    "max_position_embeddings": [
        Other(1024, given={"rope_parameters": STRETCHED, "max_position_embeddings": 256}, same=True)
    ],
    "num_experts_per_tok": [1],
    "original_max_position_embeddings": [Other(64, given={"rope_parameters": STRETCHED}, same=True)],
    "rope_parameters": [
        rope(rope_theta=50.0),
        rope("yarn", factor=4.0, **MSCALES),
        STRETCHED,
        {**STRETCHED, "short_factor": [1.0, 1.5, 2.0, 2.5]},
        {**STRETCHED, "short_mscale": 1.5, "long_mscale": 1.5},
        {**STRETCHED, "long_mscale": 1.5},
        rope(partial_rotary_factor=0.5),
    ],
    "rope_scaling": [
        Other({**STRETCHED, "type": "longrope"}, given={"rope_parameters": None, "rope_theta": 100.0})
    ],
    "router_jitter_noise": [0.1],
}
INERT = "input_jitter_noise"
READ = "router_jitter_noise"
