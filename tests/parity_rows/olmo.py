from parity_case import Case

CASE = Case(
    "olmo",
    variants={
        "clipped": {"clip_qkv": 0.5},
        "clipped_far_out": {"clip_qkv": 8.0},
        "clipped_biases": {"attention_bias": True, "clip_qkv": 0.5},
    },
)
