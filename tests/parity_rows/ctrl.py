from typing import Any

from parity_case import Case
from switch_values import Other

CASE = Case(
    "ctrl",
    small={"dff": 20},
    more={"n_positions": 128},
    variants={
        "one_head": {"n_head": 1, "n_layer": 3},
        "odd_width": {"n_embd": 15, "n_head": 3},
        "wide": {"dff": 80},
    },
    old={"n_ctx": 128, "summary_type": "cls_index", "attn_pdrop": 0.1},
    buffers=("transformer.pos_encoding",),
)

OTHERS: dict[str, list[Any]] = {"dff": [28], "n_positions": [Other(32, same=True)]}
