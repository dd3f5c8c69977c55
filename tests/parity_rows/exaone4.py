from typing import Any

from parity_case import FULL, SLIDING, Case, layers, windows
from switch_values import Other

CASE = Case(
    "exaone4",
    small={"sliding_window": 5, "sliding_window_pattern": 2},
    variants={
        "three_to_one": {"num_hidden_layers": 5, "sliding_window_pattern": 4},
        "all_full": {"sliding_window_pattern": 1},
        "no_windows": {"sliding_window": None, "sliding_window_pattern": None, "layer_types": [FULL, FULL]},
        "letters": {"sliding_window_pattern": "LG", **layers(SLIDING, FULL)},
        "full_first": layers(FULL, SLIDING, SLIDING),
        **windows("sliding_window", 1, 17, 64),
    },
)

OTHERS: dict[str, list[Any]] = {
    "sliding_window": [3, Other(None, given={"layer_types": [FULL, FULL]})],
    "sliding_window_pattern": [1],
    "layer_types": [[FULL, SLIDING]],
}
