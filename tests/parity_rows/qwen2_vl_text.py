from typing import Any

from parity_case import QWEN, Case, rope
from switch_values import OF_SECTIONS, OLD_MROPE, QWEN2, Other

CASE = Case(
    "qwen2_vl_text",
    small={"rope_parameters": rope(mrope_section=[1, 2, 1])},
    more={"num_hidden_layers": 3},
    variants={**QWEN, "wide": {"hidden_size": 48, "rope_parameters": rope(mrope_section=[2, 2, 2])}},
    must_say=("rope_parameters",),  # by default, sections are those of heads of 128
)

OTHERS: dict[str, list[Any]] = (
    QWEN2
    | OF_SECTIONS
    | {
        "rope_theta": [Other(50.0, given=OLD_MROPE)],
        "head_dim": [Other(8, same=True), 12],
        "hidden_size": [Other(48, also={"rope_parameters": rope(mrope_section=[2, 2, 2])})],
        "num_attention_heads": [Other(2, also={"rope_parameters": rope(mrope_section=[3, 3, 2])})],
    }
)
