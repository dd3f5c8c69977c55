from parity_case import ALL_OF_4, GRANITE, ONE_OF_1, ONE_OF_4, Case

CASE = Case(
    "granitemoe",
    more=GRANITE,
    variants={
        "one": ONE_OF_4,
        "all": ALL_OF_4,
        "one_of_one": ONE_OF_1,
        "many": {"num_local_experts": 40, "num_experts_per_tok": 8, "intermediate_size": 8},
    },
)
