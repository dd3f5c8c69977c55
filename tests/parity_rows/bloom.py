from typing import Any

from parity_case import LONG_TEXT, Case

CASE = Case(
    "bloom",
    variants={
        "one_head": {"n_head": 1},
        "six_heads": {"hidden_size": 48, "n_head": 6},
        "seven_heads": {"hidden_size": 56, "n_head": 7},
        "eight_heads": {"n_head": 8},
        "twelve_heads": {"hidden_size": 48, "n_head": 12},
    },
    old={"n_inner": None, "offset_alibi": 100, "pretraining_tp": 4, "masked_softmax_fusion": True},
    renamed={"hidden_size": "n_embed", "n_head": "num_attention_heads"},
    long=(({"hidden_size": 48, "n_head": 6}, LONG_TEXT),),
)


OTHERS: dict[str, list[Any]] = {
    "original_max_position_embeddings": [32]
}  # it does not turn, whatever the rule
