from typing import Any

from parity_case import LONG_TEXT, Case
from switch_values import Other

CASE = Case(
    "mamba2",
    small={"head_dim": 16, "n_groups": 2, "state_size": 4},
    more={"chunk_size": 16},
    variants={
        "wide_heads": {"num_heads": 2, "head_dim": 32},
        "one_group": {"n_groups": 1},
        "a_group_per_head": {"n_groups": 4},
        "one_head": {"num_heads": 1, "head_dim": 64, "n_groups": 1},
        "biases": {"use_bias": True},
        "no_convolution_bias": {"use_conv_bias": False},
        "expand": {"expand": 3, "num_heads": 6, "n_groups": 3},
        "chunk_longer_than_the_prompt": {"chunk_size": 256},
        "wide_convolution": {"conv_kernel": 9},
        "no_convolution": {"conv_kernel": 1},
        "one_number_per_channel": {"state_size": 1},
        "limited_step": {"time_step_limit": [0.01, 0.1]},
        "limited_above": {"time_step_limit": [0.0, 0.05]},
        "limited_below": {"time_step_limit": [0.02, float("inf")]},
    },
    long=(({"n_groups": 1}, LONG_TEXT),),
)


OTHERS: dict[str, list[Any]] = {
    "hidden_size": [Other(48, also={"head_dim": 24})],
    "num_heads": [Other(8, also={"head_dim": 8})],
    "head_dim": [Other(32, also={"num_heads": 2})],
    "expand": [Other(1, also={"head_dim": 8})],
    "n_groups": [1],
}
