from typing import Any

from parity_case import Case

CASE = Case(
    "biogpt",
    learned_positions=True,
    more={"max_position_embeddings": 96},
    variants={
        "not_scaled": {"scale_embedding": False},
        "one_head": {"num_attention_heads": 1, "num_hidden_layers": 3},
        "three_heads": {"hidden_size": 27, "num_attention_heads": 3},
    },
    old={"activation_dropout": 0.0, "layerdrop": 0.0},
)

INERT = "activation_dropout attention_probs_dropout_prob hidden_dropout_prob layer_norm_eps layerdrop"
OTHERS: dict[str, list[Any]] = {"max_position_embeddings": [32]}
