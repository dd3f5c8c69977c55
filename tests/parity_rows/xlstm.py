from typing import Any

from parity_case import Case
from switch_values import Other

CASE = Case(
    "xlstm",
    # What a head reads may be nearly nothing; its norm then magnifies the rounding of both.
    small={"ffn_round_up_to_multiple_of": 4, "norm_eps": 0.01},
    tolerance={"usual_epsilon": 1e-4},
    variants={
        "tied": None,  # transformers has no such form of it
        "usual_epsilon": {"norm_eps": 1e-6},
        "biases": {"use_bias": True},
        "epsilons": {"norm_eps": 0.1, "eps": 0.3},
        "wide": {"qk_dim_factor": 1.25, "v_dim_factor": 2.0, "ffn_proj_factor": 1.3},
        "narrow": {"qk_dim_factor": 0.25, "v_dim_factor": 0.25, "num_heads": 2},
        "one_head": {"num_heads": 1},
        "caps": {"gate_soft_cap": 0.4, "output_logit_soft_cap": 5.0},
        "small_chunks": {"chunk_size": 16},
    },
    long=(({}, 320),),
)

INERT = """
    autocast_kernel_dtype chunkwise_kernel max_inference_chunksize mode norm_reduction_force_float32
    return_last_states sequence_kernel step_kernel tie_word_embeddings
"""

OTHERS: dict[str, list[Any]] = {
    "add_out_norm": [False],
    "autocast_kernel_dtype": ["float32"],
    "chunkwise_kernel": ["parallel--native_autograd"],
    "embedding_dim": [Other(32, same=True)],
    "eps": [0.3],
    "ffn_proj_factor": [1.5],
    "ffn_round_up_to_multiple_of": [24],
    "gate_soft_cap": [0.5],
    "inference_state_dtype": ["bfloat16"],
    "max_inference_chunksize": [1000],
    "mode": ["inference"],  # others cannot run
    "norm_eps": [0.3],
    "num_blocks": [Other(2, same=True), 3],
    "output_logit_soft_cap": [1.0],
    "qk_dim_factor": [1.0],
    "sequence_kernel": ["native_sequence__native"],
    "step_kernel": ["native"],
    "v_dim_factor": [0.5],
    "weight_mode": ["fused"],
}
