from parity_case import FULL, LONG_TEXT, SLIDING, Case, layers, windows

CASE = Case(
    "vaultgemma",
    small={"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
    # Low enough to bound what such a small model computes.
    | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    variants={
        "published_caps": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        "no_caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        "scores_capped": {"final_logit_softcapping": None},
        "logits_capped": {"attn_logit_softcapping": None},
        "scale": {"query_pre_attn_scalar": 100},
        "full_first": layers(FULL, SLIDING, SLIDING),
        "all_full": layers(FULL, FULL),
        "all_sliding": layers(SLIDING, SLIDING),
        **windows("sliding_window", 1, 17, 64),
    },
    long=(({"sliding_window": 200}, LONG_TEXT),),
)
