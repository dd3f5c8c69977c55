from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, YARN, Case
from switch_values import DEEPSEEK_OTHERS, Other

OF_EXPERTS = ("first_k_dense_replace", "n_shared_experts")

CASE = Case(
    "youtu",
    # transformers sets the row of the padding token to 0 as it loads a file, where the config names one.
    small={name: value for name, value in DEEPSEEK.items() if name not in OF_EXPERTS}
    | {"pad_token_id": None},
    variants={
        **{name: keys for name, keys in DEEPSEEKS.items() if not name.startswith("all_")},
        "halves": {"rope_interleave": False, "rope_parameters": YARN},
    },
    old={"head_dim": None, "mlp_bias": False},
)

OTHERS: dict[str, list[Any]] = {
    name: values for name, values in DEEPSEEK_OTHERS.items() if name not in OF_EXPERTS
} | {"head_dim": [Other(4, same=True), 6], "mlp_bias": [True]}
INERT = "embedding_initializer_range"
