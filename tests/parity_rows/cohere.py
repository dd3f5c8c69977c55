from parity_case import Case

CASE = Case(
    "cohere",
    variants={
        "command_r_plus": {"num_key_value_heads": 2, "use_qk_norm": True, "logit_scale": 0.83},
        "wide_normed_heads": {"head_dim": 12, "use_qk_norm": True, "layer_norm_eps": 0.1},
    },
)
