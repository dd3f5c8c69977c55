from typing import Any

from parity_case import Case

CASE = Case("arcee")

OTHERS: dict[str, list[Any]] = {"hidden_act": ["silu"]}
