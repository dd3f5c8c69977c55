from typing import Any

from parity_case import LLAMA3, LONG_TEXT, YARN, Case, rope
from switch_values import ROPES

CASE = Case(
    "llama",
    variants={
        "llama3": {"rope_parameters": LLAMA3},
        "yarn_mscale": {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.5, "truncate": False}},
    },
    buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
    long=(({}, LONG_TEXT),),
)


OTHERS: dict[str, list[Any]] = {"rope_parameters": [*ROPES, rope("linear", factor=4.0), LLAMA3]}
