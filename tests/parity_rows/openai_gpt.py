from typing import Any

from parity_case import Case

CASE = Case(
    "openai-gpt",
    learned_positions=True,
    more={"n_positions": 96},
    variants={
        "relu": {"afn": "relu"},
        "silu": {"afn": "silu"},
        "swish": {"afn": "swish"},
        "one_head": {"n_head": 1, "n_layer": 3},
        "wide_heads": {"n_head": 2, "n_embd": 64},
    },
    old={"n_ctx": 96, "n_special": 0, "predict_special_tokens": True, "summary_type": "cls_index"},
    buffers=("transformer.h.{i}.attn.bias",),
)

OTHERS: dict[str, list[Any]] = {"afn": ["relu"]}
