from typing import Any

from parity_case import Case
from switch_values import Other

CASE = Case(
    "xglm",
    small={"ffn_dim": 20, "attention_heads": 4},
    variants={
        "not_scaled": {"scale_embedding": False},
        "one_head": {"attention_heads": 1, "num_layers": 3},
        "odd_width": {"d_model": 15, "attention_heads": 3},
        "padding_within": {"pad_token_id": 7},  # the position with this number has no vector
        "beyond_the_table": {"max_position_embeddings": 16},
    },
    old={"decoder_start_token_id": 2, "dropout": 0.1, "layerdrop": 0.0},
    renamed={"d_model": "hidden_size", "attention_heads": "num_attention_heads"},
    buffers=("model.embed_positions.weights",),
)

INERT = "activation_dropout decoder_start_token_id dropout init_std layerdrop"
READ = "pad_token_id"
OTHERS: dict[str, list[Any]] = {
    "attention_heads": [2],
    "ffn_dim": [28],
    "max_position_embeddings": [Other(32, same=True)],
    "pad_token_id": [5, Other(0, same=True), Other(None, same=True)],
}
