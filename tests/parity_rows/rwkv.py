from typing import Any

from parity_case import Case

CASE = Case(
    "rwkv",
    small={"intermediate_size": 20},
    variants={
        "channels": {"attention_hidden_size": 24},
        "usual_width": {"intermediate_size": None},
        "halved": {"rescale_every": 1, "num_hidden_layers": 4},
        "halved_in_twos": {"rescale_every": 2, "num_hidden_layers": 5, "layer_norm_epsilon": 0.01},
        "never_halved": {"rescale_every": 0},
    },
    long=(({}, 320),),
)

INERT = "context_length"

OTHERS: dict[str, list[Any]] = {
    "attention_hidden_size": [24],
    "intermediate_size": [28],
    "rescale_every": [2],
}
