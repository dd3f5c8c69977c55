from typing import Any

from parity_case import LONG_TEXT, Case
from switch_values import Other

CASE = Case(
    "mpt",
    more={"max_seq_len": 1000},
    variants={
        "three_heads": {"d_model": 48, "n_heads": 3},
        "six_heads": {"d_model": 48, "n_heads": 6},
        "seven_heads": {"d_model": 56, "n_heads": 7},
        "eight_heads": {"n_heads": 8},
        "twelve_heads": {"d_model": 48, "n_heads": 12},
        "clipped": {"attn_config": {"clip_qkv": 0.4}},
        "clipped_at_0": {"attn_config": {"clip_qkv": 0.0}},
        "scaled": {"attn_config": {"softmax_scale": 0.7}},
    },
    old={"norm_type": "low_precision_layernorm", "verbose": 0},
    long=(({"d_model": 48, "n_heads": 6, "max_seq_len": 1000}, LONG_TEXT),),
)


OTHERS: dict[str, list[Any]] = {
    "max_seq_len": [Other(32, same=True)],
    "expansion_ratio": [2],
    "logit_scale": ["inv_sqrt_d_model"],
    "norm_type": ["rmsnorm"],
    "attn_config.attn_type": ["multiquery_attention"],
    "attn_config.alibi_bias_max": [16],
    "attn_config.clip_qkv": [0.4],
    "attn_config.softmax_scale": [0.7],
}
