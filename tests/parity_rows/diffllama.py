from typing import Any

from parity_case import Case

CASE = Case(
    "diffllama",
    variants={
        "multi_query": None,  # keys come in pairs
        "more_maps": {"num_attention_heads": 12, "head_dim": 6, "num_key_value_heads": 4},
        "deep": {"num_hidden_layers": 5},
    },
)

INERT = "lambda_std_dev"

OTHERS: dict[str, list[Any]] = {
    "num_key_value_heads": [4, 1],
    "num_attention_heads": [2],
    "attention_dropout": [0],  # transformers refuses all others
}
