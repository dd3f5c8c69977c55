from typing import Any

from parity_case import ALL_OF_4, ONE_OF_1, ONE_OF_4, Case

CASE = Case(
    "jetmoe",
    small={"kv_channels": 8},
    variants={
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "one_of_one": ONE_OF_1,
        "wide_keys": {"kv_channels": 14, "num_key_value_heads": 3},
    },
)

INERT = "aux_loss_coef"

OTHERS: dict[str, list[Any]] = {"kv_channels": [10]}
