from typing import Any

import own_code  # noqa: F401 — registers the reference
from parity_case import Case

ALIBI = {"max_position_embeddings": None, "model_max_length": 64}
UNIT = {"z_loss_weight": 0}
CASE = Case(
    "baichuan",
    variants={
        "1_13b": ALIBI,
        "2_7b": UNIT,
        "2_13b": {**ALIBI, **UNIT},
        "no_power_of_2": {**ALIBI, "hidden_size": 48, "num_attention_heads": 6},
        "2_tied": {**UNIT, "tie_word_embeddings": True},
    },
)

OTHERS: dict[str, list[Any]] = {"max_position_embeddings": [None], "z_loss_weight": [0.0, 0.1]}
INERT = "model_max_length"
