from typing import Any

from parity_case import Case, rope

DYNAMIC = rope("dynamic", factor=4.0)
CASE = Case(
    "hrm_text",
    # Each layer runs once here, as tests of all architectures expect; in the variants several times.
    small={"head_dim": 8, "H_cycles": 1, "L_cycles": 1},
    variants={
        "published_cycles": {"H_cycles": 2, "L_cycles": 3},
        "high_often": {"H_cycles": 3, "L_cycles": 1},
        "low_often": {"H_cycles": 1, "L_cycles": 3, "num_hidden_layers": 1},
        "three_layers": {"H_cycles": 2, "num_hidden_layers": 3},
        "embeddings_scaled": {"embedding_scale": 0.7},
        "embeddings_scaled_by_the_other_key": {"initializer_range": 0.3},
        "counted_by_stack": {"num_layers_per_stack": 1, "num_hidden_layers": 4, "H_cycles": 2},
        "all_biases": {"attention_bias": True, "mlp_bias": True, "L_cycles": 2},
        "odd_heads": {"num_attention_heads": 3, "head_dim": 6, "hidden_size": 33},
        "cycles_tied": {"tie_word_embeddings": True, "H_cycles": 2, "L_cycles": 2},
        "cycles_dynamic": {"rope_parameters": DYNAMIC, "H_cycles": 2, "max_position_embeddings": 100},
    },
)

OTHERS: dict[str, list[Any]] = {
    "H_cycles": [2],
    "L_cycles": [2, 3],
    "num_layers_per_stack": [1, 3],
    "initializer_range": [0.3],
    "embedding_scale": [0.7],
    "head_dim": [12],
    "L_bp_cycles": [[1, 1]],
}
INERT = "L_bp_cycles prefix_lm"
READ = "initializer_range"
