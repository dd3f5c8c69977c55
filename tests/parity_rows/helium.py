from typing import Any

from parity_case import Case
from switch_values import Other

CASE = Case(
    "helium",
    small={"head_dim": 8},
    variants={
        "wide_heads": None,
        "wide": {"hidden_size": 48, "head_dim": 12},
        "multi_head": {"num_key_value_heads": 4},
    },
)

OTHERS: dict[str, list[Any]] = {
    "hidden_size": [Other(48, also={"head_dim": 12})],
    "head_dim": [Other(16, also={"num_attention_heads": 2}), 12],
    "num_attention_heads": [Other(2, also={"head_dim": 16})],
}
