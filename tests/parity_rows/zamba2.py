from typing import Any

from parity_case import LINEAR, Case, rope
from switch_values import ROPES, Other

HYBRID = "hybrid"
WITH_ROPE = {"use_mem_rope": True}
WITH_YARN = {**WITH_ROPE, "rope_parameters": rope("yarn", factor=4.0)}


def kinds(*names: str) -> dict[str, Any]:
    """Layers of these kinds."""
    return {"layers_block_type": list(names), "num_hidden_layers": len(names)}


ADAPTERS = {"use_shared_attention_adapter": True, "num_key_value_heads": 4}
CASE = Case(
    "zamba2",
    small={
        **kinds(HYBRID, HYBRID),
        "hidden_size": 16,  # twice as wide, scores are so sharp that softmax magnifies rounding
        "n_mamba_heads": 4,
        "mamba_d_state": 4,
        "adapter_rank": 3,
        # A limit of Δ in transformers, a number for training in the makers' code.
        "time_step_min": 1e-30,
    },
    more={"chunk_size": 16, "num_mem_blocks": 2},
    variants={
        "linear": None,
        "yarn": None,
        "biases": {"add_bias_linear": True},
        "one_block": {"num_mem_blocks": 1},
        "one_of_many_uses": {**kinds(LINEAR, HYBRID, HYBRID, HYBRID), "num_mem_blocks": 1},
        "two_blocks": {**kinds(HYBRID, LINEAR, HYBRID, HYBRID), "num_mem_blocks": 2},
        "more_blocks_than_uses": {"num_mem_blocks": 5},
        "adapters": ADAPTERS,
        "adapters_of_two_blocks": {**kinds(HYBRID, HYBRID, HYBRID), **ADAPTERS, "num_mem_blocks": 2},
        "usual_width": {"intermediate_size": None},
        "rope": WITH_ROPE,
        "rope_yarn": WITH_YARN,
        "only_mamba": kinds(LINEAR, LINEAR),
        "three": kinds(LINEAR, HYBRID, HYBRID),
        "older_names": kinds("mamba", HYBRID),
        "two_groups": {"mamba_ngroups": 2},
        "three_times_as_wide": {"mamba_expand": 3, "n_mamba_heads": 6, "mamba_ngroups": 3},
        "convolution_of_1": {**kinds(LINEAR, HYBRID), "mamba_d_conv": 1},
    },
)


OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layers_block_type": [LINEAR, HYBRID, HYBRID]})],
    "layers_block_type": [[LINEAR, HYBRID], [LINEAR, LINEAR]],
    "num_mem_blocks": [2],
    "use_shared_attention_adapter": [Other(True, given={"num_key_value_heads": 4})],
    "adapter_rank": [5],
    "use_mem_rope": [True],
    "rope_parameters": [Other(numbers, given=WITH_ROPE) for numbers in ROPES],
    "max_position_embeddings": [Other(1024, given=WITH_YARN)],
    "original_max_position_embeddings": [Other(32, given=WITH_YARN)],
    "rope_theta": [Other(50.0, given={**WITH_ROPE, "rope_parameters": None, "rope_theta": 100.0})],
    "rope_scaling": [
        Other(
            {"type": "linear", "factor": 4.0},
            given={**WITH_ROPE, "rope_parameters": None, "rope_theta": 100.0},
        )
    ],
    "mamba_ngroups": [2],
    "n_mamba_heads": [8],
    "use_long_context": [True],
}
INERT = "use_conv_bias use_mamba_kernels use_mem_eff_path"
MISREAD = "time_step_min"
