from typing import Any

from parity_case import ALL_OF_4, FULL, LINEAR, ONE_OF_4, Case
from switch_values import Other

DENSE, MOE = "mlp", "moe"


def kinds(*names: str) -> dict[str, Any]:
    """Layers of these kinds."""
    return {"layers_block_type": list(names)}


CASE = Case(
    "nemotron_h",
    small={
        **kinds(LINEAR, DENSE, FULL, MOE),
        "head_dim": 8,
        "ssm_state_size": 4,
        "mamba_num_heads": 4,
        "mamba_head_dim": 6,
        "n_groups": 2,
        "moe_shared_expert_intermediate_size": 12,
        # A limit of Δ in transformers, a number for training in the makers' code.
        "time_step_min": 1e-30,
    },
    more={"chunk_size": 16},
    variants={
        "attention_bias": None,
        "tied": None,  # transformers has no rule to tie them: see test_nemotron_h.py
        "biases": {"use_bias": True},
        "gelu": {"mlp_hidden_act": "gelu", "mamba_hidden_act": "gelu"},
        "no_convolution_bias": {"use_conv_bias": False},
        "one_group": {"n_groups": 1},
        "a_group_per_head": {"n_groups": 4},
        "convolution_of_1": {"conv_kernel": 1},
        "older_names": kinds("mamba", DENSE, "attention"),
        "mamba_alone": kinds(LINEAR, LINEAR),
        "attention_alone": kinds(FULL, DENSE, FULL),
        "feed_forward_first_and_last": kinds(DENSE, FULL, LINEAR, MOE),
        "no_mixer": kinds(MOE, DENSE),
        "one_of_four": ONE_OF_4,
        "all_of_four": ALL_OF_4,
        "groups": {"n_group": 2, "topk_group": 1},
        "weights_as_they_are": {"norm_topk_prob": False, "routed_scaling_factor": 2.5},
        "latent": {"moe_latent_size": 20},
        "latent_biases": {"moe_latent_size": 20, "mlp_bias": True},
    },
    long=((kinds(LINEAR, FULL, DENSE), 320),),
)


OTHERS: dict[str, list[Any]] = {
    "layers_block_type": [[LINEAR, MOE], [FULL, DENSE]],
    "num_hidden_layers": [3],
    "hybrid_override_pattern": [Other("M*-E", given={"layers_block_type": None}, also={})],
    "mlp_hidden_act": ["silu"],
    "mamba_hidden_act": ["relu"],
    "ssm_state_size": [6],
    "mamba_num_heads": [6],
    "mamba_head_dim": [8],
    "n_groups": [1],
    "moe_shared_expert_intermediate_size": [16],
    "moe_latent_size": [20],
    "n_group": [Other(2, given={"topk_group": 1})],
    "topk_group": [Other(1, given={"n_group": 2, "topk_group": 2})],
    "sliding_window": [3],
    "tie_word_embeddings": [Other(True, same=True)],  # the file has both tables
}
INERT = """
    attention_bias expand mamba_proj_bias mamba_ssm_cache_dtype max_position_embeddings use_mamba_kernels
    moe_shared_expert_overlap mtp_layers_block_type n_shared_experts num_nextn_predict_layers
"""
MISREAD = "time_step_limit time_step_min"
