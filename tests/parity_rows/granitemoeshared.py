from typing import Any

from parity_case import ALL_OF_4, GRANITE, NO_MULTIPLIERS, ONE_OF_1, ONE_OF_4, Case

CASE = Case(
    "granitemoeshared",
    more=GRANITE,
    variants={
        "one_expert": ONE_OF_1,
        "one_of_four": ONE_OF_4,
        "all_of_four": ALL_OF_4,
        "no_shared_layer": {"shared_intermediate_size": 0},
        "wide_shared_layer": {"shared_intermediate_size": 52},
        "no_multipliers": NO_MULTIPLIERS,
    },
)


OTHERS: dict[str, list[Any]] = {"shared_intermediate_size": [28, 0]}
