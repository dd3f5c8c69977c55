from typing import Any

from parity_case import FULL, GRANITE, NO_MULTIPLIERS, SLIDING, YARN, Case, layers, windows

BASES = {"layer_rope_theta": [0, 50.0, 400.0], "num_hidden_layers": 3}
CASE = Case(
    "granite_swa",
    small={"sliding_window": 5},
    more=GRANITE,
    variants={
        "no_multipliers": NO_MULTIPLIERS,
        "wide_heads": {"head_dim": 12},
        "bases": BASES,
        "bases_yarn": {**BASES, "rope_parameters": YARN},
        "nothing_rotates": {"layer_rope_theta": [0.0, 0.0]},
        "five_layers": {"num_hidden_layers": 5},
        "all_full": layers(FULL, FULL),
        "full_last": layers(SLIDING, SLIDING, FULL),
        **windows("sliding_window", 1, 17, 64),
    },
)

OTHERS: dict[str, list[Any]] = {
    "layer_rope_theta": [[0, 50.0]],
    "layer_types": [[SLIDING, FULL]],
}
