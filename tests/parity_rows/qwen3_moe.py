from typing import Any

from parity_case import NORMED, WINDOW, Case
from switch_values import QWEN2, Other

CASE = Case(
    "qwen3_moe",
    variants={
        "normed": NORMED,
        "wide_heads": {"head_dim": 12, **NORMED},
        "every_second_layer": {"num_hidden_layers": 3, "decoder_sparse_step": 2},
        "some_dense": {"mlp_only_layers": [0]},
        "window": WINDOW,
        "window_unused": {**WINDOW, "use_sliding_window": False},
    },
    renamed={"num_local_experts": "num_experts"},
)

OTHERS: dict[str, list[Any]] = QWEN2 | {"intermediate_size": [Other(28, given={"mlp_only_layers": [0]})]}
