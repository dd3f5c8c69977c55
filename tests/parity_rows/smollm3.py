from typing import Any

from parity_case import FULL, SLIDING, WINDOW, Case
from switch_values import Other

CASE = Case(
    "smollm3",
    small={"no_rope_layer_interval": 2},
    more={"num_hidden_layers": 4},
    variants={
        "every_fourth": {"no_rope_layer_interval": 4},
        "every_first": {"no_rope_layer_interval": 1},
        "listed": {"no_rope_layers": [0, 1, 1, 1, 0, 0]},
        "windows": WINDOW,
        "window_null": {**WINDOW, "sliding_window": None},
        "windows_named": {**WINDOW, "layer_types": [FULL, SLIDING, FULL, FULL]},
        "named_without_the_switch": {"sliding_window": 17, "layer_types": [FULL, SLIDING, FULL, FULL]},
        "window_not_used": {**WINDOW, "use_sliding_window": False},
    },
)

OTHERS: dict[str, list[Any]] = {
    "no_rope_layers": [[0, 1], [1, 1]],
    "no_rope_layer_interval": [1],
    "use_sliding_window": [Other(True, given={"sliding_window": 5})],
    "sliding_window": [Other(3, given={"sliding_window": 5, "use_sliding_window": True})],
    "layer_types": [Other([SLIDING, FULL], given={"sliding_window": 5, "use_sliding_window": True})],
}
