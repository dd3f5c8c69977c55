from typing import Any

from parity_case import Case

CASE = Case(
    "falcon_mamba",
    small={"state_size": 4},
    variants={
        "biases": {"use_bias": True},
        "no_convolution_bias": {"use_conv_bias": False},
        "rank": {"time_step_rank": 7},
        "expand": {"expand": 3},
        "inner_width": {"intermediate_size": 40, "expand": 16},  # the published file: it goes before expand
        "wide_convolution": {"conv_kernel": 9},
        "no_convolution": {"conv_kernel": 1},
        # With the usual epsilon the norm of one number, which may be near 0, would magnify rounding.
        "one_number_per_channel": {"state_size": 1, "mixer_rms_eps": 0.01},
        "epsilon_of_the_mixer": {"mixer_rms_eps": 0.3},
        "other_ways_to_compute": {"use_falcon_mambapy": True, "use_associative_scan": False}
        | {"residual_in_fp32": False},
    },
    long=(({}, 320),),
)


OTHERS: dict[str, list[Any]] = {"expand": [3], "time_step_rank": [3], "mixer_rms_eps": [0.1]}
