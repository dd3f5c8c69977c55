from typing import Any

import own_code  # noqa: F401 — registers the reference
from parity_case import Case

CASE = Case(
    "internlm2",
    variants={"no_biases": {"bias": False}},
    of_today=("tied",),  # the old files of others have the table twice, the second time as lm_head
)

OTHERS: dict[str, list[Any]] = {}
