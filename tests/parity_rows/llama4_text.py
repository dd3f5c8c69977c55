from typing import Any

from parity_case import ALL_OF_4, CHUNKED, FULL, LLAMA3, LONG_TEXT, YARN, Case, windows
from switch_values import Other

CASE = Case(
    "llama4_text",
    small={"head_dim": 8, "no_rope_layer_interval": 2, "attention_chunk_size": 5}
    # Of thousands: otherwise nothing grows within a test.
    | {"intermediate_size_mlp": 24, "floor_scale": 3, "attn_scale": 0.6},
    more={"attention_chunk_size": 16, "num_experts_per_tok": 1},
    variants={
        "linear": None,
        "five": {"num_hidden_layers": 5, "no_rope_layer_interval": 4, "interleave_moe_layer_step": 2},
        "no_norms": {"use_qk_norm": False},
        # As published: between 1 and 1 nothing is blended.
        "scout": {"rope_parameters": {**LLAMA3, "high_freq_factor": 1.0}},
        "llama3": {"rope_parameters": LLAMA3},
        "no_temperature": {"attn_temperature_tuning": False},
        "all_rotate": {"no_rope_layers": [1, 1]},
        "none_rotates": {"no_rope_layer_interval": 1, "floor_scale": 1},
        "listed": {"num_hidden_layers": 3, "no_rope_layers": [0, 0, 1]},
        "rotated_and_full": {"layer_types": [FULL, CHUNKED]},
        "tempered_in_chunks": {"no_rope_layers": [0, 0], "layer_types": [CHUNKED, CHUNKED]},
        "no_experts": {"moe_layers": []},
        "two_of_the_experts": {"moe_layers": [0], "num_experts_per_tok": 2},
        "every_expert": ALL_OF_4,
        "yarn_without_norms": {"rope_parameters": YARN, "use_qk_norm": False},
        **windows("attention_chunk_size", 1, 2, 69, 70, 1000),
    },
    long=(({"attention_chunk_size": 200}, LONG_TEXT),),
)


OTHERS: dict[str, list[Any]] = {
    "intermediate_size_mlp": [Other(28, given={"interleave_moe_layer_step": 2})],
    "moe_layers": [[0]],
    "interleave_moe_layer_step": [2],
    "no_rope_layers": [[0, 1]],
    "no_rope_layer_interval": [1],
    "attention_chunk_size": [3],
    "layer_types": [[CHUNKED, CHUNKED], [FULL, FULL]],
    "floor_scale": [2],
    "attn_scale": [0.1],
}
