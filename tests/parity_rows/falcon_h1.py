from typing import Any

from parity_case import LIMITS, LLAMA3, MAMBA_BIASES, MULTIPLIERS, Case
from switch_values import Other

CASE = Case(
    "falcon_h1",
    small={"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_state": 4},
    more={"mamba_d_ssm": 32, "mamba_d_state": 8, "mamba_chunk_size": 16, **MULTIPLIERS},
    variants={
        "no_multipliers": dict.fromkeys(MULTIPLIERS, 1.0)
        | {"ssm_multipliers": None, "mlp_multipliers": None},
        "norm_after_the_gate": {"mamba_rms_norm": True, "mamba_norm_before_gate": False},
        "norm_before_the_gate": {"mamba_rms_norm": True, "mamba_norm_before_gate": True},
        "norms_of_two_groups": {"mamba_rms_norm": True, "mamba_n_groups": 2},
        "two_groups": {"mamba_n_groups": 2},
        **{key: {key: True} for key in ("mamba_proj_bias", "projectors_bias")},
        "all_biases": {**MAMBA_BIASES, "mamba_rms_norm": True},
        "no_convolution_bias": {"mamba_conv_bias": False},
        "width_by_expansion": {"mamba_d_ssm": None, "mamba_expand": 3, "mamba_n_heads": 6},
        "wide_mamba_heads": {"mamba_n_heads": 2, "mamba_d_head": 16},
        "convolution_of_2": {"mamba_d_conv": 2, "mamba_chunk_size": 256},
        "convolution_of_1": {"mamba_d_conv": 1},
        "wide_heads": {"num_key_value_heads": None, "head_dim": 12},
        "llama3": {"rope_parameters": LLAMA3},
        **LIMITS,
    },
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {
    "mamba_d_ssm": [32],
    "mamba_expand": [Other(1, given={"mamba_d_ssm": None})],
    "mamba_norm_before_gate": [Other(False, given={"mamba_rms_norm": True})],
    "mlp_multipliers": [[0.7, 1.4]],
    "ssm_multipliers": [[0.7, 1.4, 0.6, 1.3, 0.8]],
}
