from typing import Any

from parity_case import ALL_OF_4, FULL, NORMED, ONE_OF_4, SLIDING, TYPES, WINDOW, Case
from switch_values import QWEN2, SMALL_WINDOW, Other

CASE = Case(
    "qwen2_moe",
    small={"num_hidden_layers": 3},
    variants={
        "normed": NORMED,
        "one": ONE_OF_4,
        "one_normed": {**ONE_OF_4, **NORMED},
        "all": ALL_OF_4,
        "every_second_layer": {"decoder_sparse_step": 2},
        "some_dense": {"mlp_only_layers": [0, 2]},
        "every_second_but_dense": {"num_hidden_layers": 5, "decoder_sparse_step": 2}
        | {"mlp_only_layers": [3]},
        "no_bias": {"qkv_bias": False},
        "window": WINDOW,
        "window_in_the_first": {**WINDOW, "max_window_layers": 2},
        "window_unused": {**WINDOW, "use_sliding_window": False},
        "window_named": {**WINDOW, **TYPES},
    },
)

OTHERS: dict[str, list[Any]] = QWEN2 | {
    "num_hidden_layers": [2],
    "intermediate_size": [Other(28, given={"mlp_only_layers": [0]})],
    "max_window_layers": [Other(3, given=SMALL_WINDOW)],
    "layer_types": [Other([FULL, SLIDING, SLIDING], given=SMALL_WINDOW)],
}
