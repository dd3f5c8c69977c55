from typing import Any

from parity_case import DEEPSEEK, DEEPSEEKS, LONGROPE, Case, rope
from switch_values import DEEPSEEK_OTHERS

LATENTS = {key: value for key, value in DEEPSEEK.items() if key[:2] in ("kv", "q_", "qk", "v_", "nu")}
CASE = Case(
    "minicpm3",
    small=LATENTS,
    variants={
        **{name: keys for name, keys in DEEPSEEKS.items() if not name.startswith("all_")},
        "biases_of_plain_queries": {"attention_bias": True, "q_lora_rank": None},
        "nothing_scaled": {"scale_emb": 1, "scale_depth": None, "dim_model_base": None},
        "scales": {"scale_emb": 3.5, "scale_depth": 0.7, "dim_model_base": 8},
        "usual_values": {"v_head_dim": None},
        "longrope": {
            "rope_parameters": rope(**{**LONGROPE, "original_max_position_embeddings": 128}),
            "max_position_embeddings": 256,
        },
    },
    old={"head_dim": None},
)

OTHERS: dict[str, list[Any]] = DEEPSEEK_OTHERS | {
    "v_head_dim": [10, None],
    "scale_emb": [1, 2.5],
    "scale_depth": [0.7, None],
    "dim_model_base": [8, None],
}
INERT = "head_dim"
