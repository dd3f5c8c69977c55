from parity_case import GRANITE, NO_MULTIPLIERS, Case

CASE = Case(
    "granite",
    more=GRANITE,
    variants={"no_multipliers": NO_MULTIPLIERS, "wide_heads": {"head_dim": 12}},
)
