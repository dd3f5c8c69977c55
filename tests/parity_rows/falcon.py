from typing import Any

from parity_case import GROUPED, LONG_TEXT, OF_11B, RW, YARN, Case
from switch_values import OF_GROUPS, Other

CASE = Case(
    "falcon",
    variants={
        "rw": RW,
        "rw_of_eight_heads": {**RW, "num_attention_heads": 8},
        "rw_of_seven_heads": {**RW, "hidden_size": 56, "num_attention_heads": 7},
        "40b": GROUPED,
        "11b": {**OF_11B, "tie_word_embeddings": False},
        # What no published model is, but a config can say:
        "multi_query_sequential": {"parallel_attn": False},
        "multi_query_alibi": {"alibi": True},
        "multi_head_parallel": {"multi_query": False},
        "grouped_alibi_biases": {**GROUPED, "alibi": True, "bias": True},
        "grouped_by_ones": {"new_decoder_architecture": True, "num_kv_heads": 4},
        "grouped_multi_query": {**OF_11B, "num_kv_heads": 1, "bias": True},
        "inner_width": {"ffn_hidden_size": 100, "activation": "relu"},
        "grouped_yarn": {**GROUPED, "rope_parameters": YARN},
    },
    old={"apply_residual_connection_post_layernorm": False, "ff_factor": 4},
    renamed={
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "num_kv_heads": "n_head_kv",
    },
    # Its biases are rounded from position 257 on.
    long=(
        (RW, LONG_TEXT),
        ({**RW, "hidden_size": 64, "num_attention_heads": 16}, 330),
        ({"alibi": True, "hidden_size": 142, "num_attention_heads": 71}, 330),
    ),
)


OTHERS: dict[str, list[Any]] = {
    "num_kv_heads": [Other(2, given=OF_GROUPS)],
    "num_ln_in_parallel_attn": [Other(1, given=OF_GROUPS)],
}
