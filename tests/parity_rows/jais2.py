from typing import Any

from parity_case import Case

CASE = Case("jais2", variants={"no_biases": {"attention_bias": False, "mlp_bias": False}})

OTHERS: dict[str, list[Any]] = {"hidden_act": ["silu"]}
