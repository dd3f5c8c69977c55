from typing import Any

from parity_case import ALL_OF_4, FULL, LINEAR, ONE_OF_1, ONE_OF_4, Case, layers, windows
from switch_values import Other

FACTORS = {
    f"{part}_{name}_factor": value
    for part, values in {"full_attn": (1.5, 0.7), "linear_attn": (0.8, 1.4), "mlp": (1.2, 0.6)}.items()
    for name, value in zip(("alpha", "beta"), values, strict=True)
}
OF_THE_MAKERS = {"full_attn": "full_attention", "linear_attn": "linear_attention", "mlp": "mlp"}

CASE = Case(
    "minimax",
    small={"head_dim": 8, "block_size": 16, "sliding_window": 5, **FACTORS},
    variants={
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "one_of_one": ONE_OF_1,
        "no_factors": dict.fromkeys(FACTORS, 1),
        "four": layers(LINEAR, LINEAR, LINEAR, FULL),
        "no_attention": layers(LINEAR, LINEAR),
        "no_lightning": layers(FULL, FULL),
        "odd_heads": {"num_attention_heads": 3, "num_key_value_heads": 1, **layers(LINEAR, FULL, LINEAR)},
        **windows("sliding_window", 1, 17, None),
    },
    renamed={
        f"{part}_{name}_factor": f"layernorm_{theirs}_{name}"
        for part, theirs in OF_THE_MAKERS.items()
        for name in ("alpha", "beta")
    }
    | {"num_local_experts": "num_experts"},
    old={"postnorm": True, "shared_intermediate_size": 0},
    long=(({}, 320),),
)

OTHERS: dict[str, list[Any]] = {
    **{name: [0.5] for name in FACTORS},
    "block_size": [Other(4, same=True)],  # how many tokens its code takes at a time
    "layer_types": [[LINEAR, FULL], [FULL, FULL], [LINEAR, LINEAR]],
}
