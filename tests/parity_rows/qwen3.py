from typing import Any

from parity_case import QWEN, Case
from switch_values import QWEN2

CASE = Case(
    "qwen3",
    small={"head_dim": 8},
    more={"num_hidden_layers": 3},
    variants={"from_a_layer_on": QWEN["from_a_layer_on"]},
)

OTHERS: dict[str, list[Any]] = QWEN2
