from typing import Any

from parity_case import Case

OF_350M = {"do_layer_norm_before": False, "word_embed_proj_dim": 12}
CASE = Case(
    "opt",
    learned_positions=True,
    small={"ffn_dim": 20},
    more={"max_position_embeddings": 96},
    variants={
        "350m": OF_350M,
        "350m_untied": {**OF_350M, "tie_word_embeddings": False},
        "post_norm": {"do_layer_norm_before": False},
        "wide_tokens": {"word_embed_proj_dim": 40},
        "narrow_tokens_unbiased": {"word_embed_proj_dim": 7, "enable_bias": False},
        "named_width": {"word_embed_proj_dim": 32},
        "without_last_norm": {"_remove_final_layer_norm": True},
        "unbiased": {"enable_bias": False},
        "fixed_norms": {"layer_norm_elementwise_affine": False, "enable_bias": False},
        "one_head": {"num_attention_heads": 1, "num_hidden_layers": 3},
    },
    old={"prefix": "</s>", "torch_dtype": "float16", "dropout": 0.1},
)

INERT = "dropout init_std layerdrop"
OTHERS: dict[str, list[Any]] = {
    "activation_function": ["gelu"],
    "ffn_dim": [28],
    "max_position_embeddings": [32],
    "word_embed_proj_dim": [12],
}
