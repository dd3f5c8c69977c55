from typing import Any

import qwen1_reference  # noqa: F401 — registers what transformers has not
from parity_case import Case
from switch_values import Other

CASE = Case(
    "qwen",
    # The rotations by a text's length are in test_qwen1.py; 7 and 12 tokens, as the walk has them, are alike.
    small={"kv_channels": 8, "rotary_emb_base": 100.0, "seq_length": 6, "use_dynamic_ntk": False},
    variants={
        "biases": {"no_bias": False},
        "plain_queries": {"use_logn_attn": False},
        "trained_on_more": {"seq_length": 100, "use_dynamic_ntk": True},
        "trained_on_two": {"seq_length": 2},
        "half_rotated": {"rotary_pct": 0.5},
        "odd_part": {"rotary_pct": 0.4},
        "one_head": {"num_attention_heads": 1, "kv_channels": 32},
        "odd_heads": {
            "num_attention_heads": 3,
            "kv_channels": 12,
            "hidden_size": 36,
            "intermediate_size": 21,
        },
    },
    renamed={
        "hidden_size": "n_embd",
        "intermediate_size": "ffn_hidden_size",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "max_position_embeddings": "n_positions",
        "vocab_size": "padded_vocab_size",
    },
    buffers=("transformer.h.{i}.attn.rotary_emb.inv_freq", "transformer.h.{i}.attn.masked_bias"),
    long=(({}, 320),),
)

OTHERS: dict[str, list[Any]] = {
    "hidden_size": [Other(48, also={"kv_channels": 12})],
    "kv_channels": [Other(4, also={"num_attention_heads": 8}), 16],
    "num_attention_heads": [Other(2, also={"kv_channels": 16})],
    "rotary_emb_base": [50.0],
    "rotary_pct": [0.5],
    "seq_length": [5],
    "use_dynamic_ntk": [True],
}
INERT = "attn_dropout_prob bf16 emb_dropout_prob fp16 fp32 max_position_embeddings scale_attn_weights"
INERT += " softmax_in_fp32 use_cache_kernel use_flash_attn"
