from typing import Any

from parity_case import LINEAR, Case
from switch_values import Other

HYBRID = "hybrid"
SHARED = {"tie_word_embeddings": True}


def kinds(*names: str) -> dict[str, Any]:
    """Layers of these kinds."""
    return {"layers_block_type": list(names), "num_hidden_layers": len(names)}


def usual(number: int, **keys: int) -> dict[str, Any]:
    """As many layers, of the usual kinds."""
    return {"layers_block_type": None, "num_hidden_layers": number, **keys}


CASE = Case(
    "zamba",
    small={
        **kinds(HYBRID, HYBRID),
        "hidden_size": 16,  # twice as wide, scores are so sharp that softmax magnifies rounding
        "mamba_d_state": 4,
    },
    # Each use has a block of its own then: what is taken out of one is not taken out of the others.
    more={"tie_word_embeddings": False},
    variants={
        "linear": None,
        "wide_heads": {"attention_head_dim": 12},
        "mamba_first": {**kinds(LINEAR, HYBRID, HYBRID), **SHARED},
        "many_uses": {**kinds(HYBRID, LINEAR, HYBRID, HYBRID), **SHARED},
        "only_mamba": kinds(LINEAR, LINEAR),
        "one_layer": kinds(HYBRID),  # transformers cannot share a block that is used once
        "usual_kinds": {**usual(8), **SHARED},
        "every_third": usual(7, attn_layer_period=3, attn_layer_offset=0),
        "older_names": kinds("mamba", HYBRID, HYBRID),
        "not_shared": kinds(LINEAR, HYBRID, HYBRID),
        "one_head": {"n_mamba_heads": 1},
        "four_heads": {"n_mamba_heads": 4},
        "heads_of_one_channel": {"n_mamba_heads": 32},
        "three_times_as_wide": {"mamba_expand": 3, "n_mamba_heads": 6},
        "mamba_activation": {"hidden_mamba_act": "gelu"},
        "biases": {"mamba_proj_bias": True},
        "no_convolution_bias": {"mamba_conv_bias": False},
        "rank": {"mamba_dt_rank": 7},
        "convolution_of_1": {"mamba_d_conv": 1},
        "one_number_per_channel": {"mamba_d_state": 1},
    },
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layers_block_type": [LINEAR, HYBRID, HYBRID]})],
    "layers_block_type": [Other([LINEAR, HYBRID], given={"tie_word_embeddings": False}), [LINEAR, LINEAR]],
    "attn_layer_period": [Other(2, given=usual(7, attn_layer_offset=0))],
    "attn_layer_offset": [Other(1, given=usual(8))],
    "attention_hidden_size": [48],
    "attention_head_dim": [12],
    "hidden_mamba_act": ["gelu"],
    "n_mamba_heads": [4],
    "mamba_expand": [3],
    "mamba_dt_rank": [3],
}
INERT = "max_position_embeddings use_mamba_kernels use_associative_scan"
