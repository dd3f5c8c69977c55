from typing import Any

from parity_case import Case, rope
from switch_values import Other

ALPHA = rope("dynamic", alpha=50.0, factor=1.0)

CASE = Case(
    "hunyuan_v1_dense",
    small={"head_dim": 8},
    variants={
        "alpha": {"rope_parameters": ALPHA},
        "alpha_of_wide_heads": {"rope_parameters": ALPHA, "head_dim": 12, "tie_word_embeddings": True},
        "alpha_and_yarns_numbers": {
            "rope_parameters": {
                **ALPHA,
                "beta_fast": 32,
                "beta_slow": 1,
                "mscale": 1.0,
                "mscale_all_dim": 0.0,
            }
        },
        "every_query_has_its_key": {"num_key_value_heads": None},
    },
    old={"use_qk_norm": True, "use_cla": False, "cla_share_factor": 2},
    must_say=("head_dim",),
)

OTHERS: dict[str, list[Any]] = {
    "rope_parameters": [rope(rope_theta=50.0), rope("yarn", factor=4.0), ALPHA, {**ALPHA, "alpha": 7.0}],
    "rope_scaling": [
        Other(
            {"type": "dynamic", "alpha": 50.0, "factor": 1.0},
            given={"rope_parameters": None, "rope_theta": 100.0},
        )
    ],
}
INERT = "eod_token_id"
