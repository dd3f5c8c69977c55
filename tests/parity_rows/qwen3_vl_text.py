from typing import Any

from parity_case import Case, rope
from switch_values import OF_SECTIONS

CASE = Case("qwen3_vl_text", small={"head_dim": 8, "rope_parameters": rope(mrope_section=[1, 2, 1])})

OTHERS: dict[str, list[Any]] = OF_SECTIONS
