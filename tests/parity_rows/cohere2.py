from typing import Any

from parity_case import FULL, SLIDING, Case, layers, windows

CASE = Case(
    "cohere2",
    small={"num_hidden_layers": 4, "sliding_window": 5},
    variants={
        **windows("sliding_window", 1, 2, 17, 64, 69, 70, 71),
        "wide_heads": {"head_dim": 12},
        "far_first": layers(FULL, SLIDING, SLIDING),
        "all_near": layers(SLIDING, SLIDING),
        "all_far": layers(FULL, FULL),
        "every_second": {"sliding_window_pattern": 2},
    },
    long=(({"sliding_window": 100}, 1500),),
)

OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [5],
    "layer_types": [[FULL, SLIDING, SLIDING, FULL]],
    "sliding_window": [3],  # the model of transformers cannot run without one
    "sliding_window_pattern": [1, 2],
}
