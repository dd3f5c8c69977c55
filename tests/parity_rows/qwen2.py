from typing import Any

from parity_case import QWEN, Case
from switch_values import QWEN2

CASE = Case("qwen2", more={"num_hidden_layers": 3}, variants={"wide_heads": {"head_dim": 12}, **QWEN})

OTHERS: dict[str, list[Any]] = QWEN2
