from typing import Any

from parity_case import FULL, NO_ROPE, SLIDING, YARN, Case, layers, near_and_far, rope, windows
from switch_values import OLD, Other

CASE = Case(
    "olmo3",
    small={"num_hidden_layers": 4, "sliding_window": 5, **near_and_far(rope(), rope())},
    variants={
        **NO_ROPE,  # those two say one rule for all layers
        "all_full": layers(FULL, FULL),
        "full_first": layers(FULL, SLIDING, SLIDING),
        "yarn_far": near_and_far(rope(), YARN),
        **windows("sliding_window", 1, 17, 64),
    },
)

FAR = {"layer_types": [FULL] * 4}
YARN_FAR = {"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}}
OTHERS: dict[str, list[Any]] = {
    "rope_parameters": [
        {FULL: rope(rope_theta=50.0), SLIDING: rope(rope_theta=20.0)},
        {FULL: rope("yarn", factor=4.0), SLIDING: rope("linear", rope_theta=20.0, factor=4.0)},
    ],
    "layer_types": [[FULL, SLIDING, SLIDING, FULL]],
    "max_position_embeddings": [Other(1024, given=YARN_FAR)],
    "original_max_position_embeddings": [Other(32, given=YARN_FAR, same=True)],
    # Of old files, transformers forgets the base in layers with a window.
    "rope_theta": [Other(50.0, given={**OLD, **FAR})],
    "rope_scaling": [Other({"rope_type": "linear", "factor": 4.0}, given={**OLD, **FAR})],
}
