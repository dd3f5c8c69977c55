from parity_case import ALL_OF_4, ONE_OF_1, ONE_OF_4, Case, windows

CASE = Case(
    "mixtral",
    small={"head_dim": 8, "sliding_window": 5},
    variants={
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "one_of_one": ONE_OF_1,
        "many": {"num_local_experts": 24, "num_experts_per_tok": 6, "intermediate_size": 8},
        **windows("sliding_window", 17, None),
    },
    renamed={"num_local_experts": "num_experts"},
)
