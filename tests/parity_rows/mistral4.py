from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, YARN, Case, rope
from switch_values import DEEPSEEK_OTHERS, GROWING, Other

STEPS = {"llama_4_scaling_beta": 0.7, "original_max_position_embeddings": 8}

CASE = Case(
    "mistral4",
    # From 8 of thousands on: otherwise nothing grows within a test.
    small={**DEEPSEEK, "n_routed_experts": 8, "n_group": 4, "topk_group": 2, "rope_parameters": GROWING},
    more={"num_hidden_layers": 3},
    variants={
        **DEEPSEEKS,
        "published": {"rope_parameters": None},
        "mscale": {"rope_parameters": {**GROWING, "mscale": 1.0, "mscale_all_dim": 0.4}},
        "linear_mscale": {"rope_parameters": rope("linear", factor=3.0, mscale_all_dim=0.5, **STEPS)},
        "mscale_alike": {"rope_parameters": {**GROWING, "mscale": 0.707, "mscale_all_dim": 0.707}},
        "no_growth": {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.0}},
        "halves": {"rope_interleave": False},
        "one_group": {"topk_group": 1},
        "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
        "not_normed": {"norm_topk_prob": False},
    },
    of_today=("linear_mscale",),  # old files said nothing of growth without scaling
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "n_routed_experts": [12],
    "n_group": [2],
    "topk_group": [1],
    "rope_parameters": [
        {**GROWING, "rope_theta": 50.0},
        {**GROWING, "llama_4_scaling_beta": 0.2},
        {**GROWING, "original_max_position_embeddings": 6},
        {**GROWING, "factor": 2.0},
        {**GROWING, "partial_rotary_factor": 0.5},
        rope("linear", factor=3.0, **STEPS),
        rope("yarn", factor=4.0, original_max_position_embeddings=8),
    ],
    "rope_scaling": [Other({**GROWING, "factor": 2.0}, given={"rope_parameters": None})],
    "rope_theta": [
        Other(50.0, given={"rope_parameters": {k: v for k, v in GROWING.items() if k != "rope_theta"}})
    ],
    "max_position_embeddings": [
        Other(10, given={"rope_parameters": {k: v for k, v in GROWING.items() if k[:8] != "original"}})
    ],
    "original_max_position_embeddings": [7],
}
