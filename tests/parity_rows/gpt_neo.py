from typing import Any

from parity_case import LONG_TEXT, Case, windows
from switch_values import Other

CASE = Case(
    "gpt_neo",
    learned_positions=True,
    small={"attention_types": [[["global", "local"], 1]], "window_size": 5},
    more={"max_position_embeddings": 128},
    variants={
        "three": {"num_layers": 3, "attention_types": [[["global", "local"], 1], [["local"], 1]]},
        "global": {"attention_types": [[["global"], 2]]},
        "local": {"attention_types": [[["local"], 2]]},
        **windows("window_size", 1, 2, 20, 69, 70),
        "inner_width": {"intermediate_size": 80, "activation_function": "relu"},
    },
    old={"attention_layers": None},
    renamed={"num_heads": "num_attention_heads", "num_layers": "num_hidden_layers"},
    buffers=("transformer.h.{i}.attn.attention.bias", "transformer.h.{i}.attn.attention.masked_bias"),
    long=(({"max_position_embeddings": LONG_TEXT, "window_size": 100}, LONG_TEXT),),
)


OTHERS: dict[str, list[Any]] = {
    "num_layers": [Other(4, also={"attention_types": [[["global", "local"], 2]]})],
    "attention_types": [[[["local"], 2]], [[["global"], 1], [["global"], 1]]],
    "max_position_embeddings": [32],
    "intermediate_size": [28],
    "window_size": [3],
}
