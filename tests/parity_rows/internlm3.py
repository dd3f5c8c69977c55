from typing import Any

from parity_case import Case
from switch_values import Other

BIASES = {"attention_bias": True, "mlp_bias": True}
CASE = Case(
    "internlm3",
    small={"head_dim": 8},
    variants={
        # transformers wants both or none
        "attention_bias": None,
        "mlp_bias": None,
        "biases": BIASES,
    },
)

OTHERS: dict[str, list[Any]] = {
    "attention_bias": [Other(True, also={"mlp_bias": True})],
    "mlp_bias": [Other(True, also={"attention_bias": True})],
}
