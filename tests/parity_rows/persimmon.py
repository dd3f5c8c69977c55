from typing import Any

from parity_case import FACTORS, Case, part
from switch_values import OF_HALVES

CASE = Case(
    "persimmon",
    small=part(0.5),
    variants={
        "no_norms_of_heads": {"qk_layernorm": False},
        "no_norms_of_heads_tied": {"qk_layernorm": False, "tie_word_embeddings": True},
        "whole_heads": part(1.0, rope_theta=25000.0),
        "llama3": part(0.5, "llama3", **FACTORS),
        "one_head": {"num_attention_heads": 1, "num_hidden_layers": 3},
    },
    buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)

OTHERS: dict[str, list[Any]] = OF_HALVES | {"hidden_act": ["gelu"]}
