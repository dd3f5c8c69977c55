from parity_case import Case

CASE = Case(
    "seed_oss",
    small={"head_dim": 8},
    variants={
        "out_bias": {"attention_out_bias": True},
        "no_bias": {"attention_bias": False},
        "all_biases": {"attention_out_bias": True, "mlp_bias": True},
    },
)

INERT = "residual_dropout"
