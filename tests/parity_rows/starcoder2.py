from parity_case import Case, windows

CASE = Case(
    "starcoder2",
    small={"sliding_window": 5},
    variants={
        **windows("sliding_window", 17, None),
        "unbiased": {"use_bias": False},
        "wide_heads": {"head_dim": 12},
    },
    old={"activation_function": "gelu", "mlp_type": "default", "norm_type": "layer_norm"},
)
