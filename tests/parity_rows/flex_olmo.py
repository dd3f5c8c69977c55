from parity_case import ALL_OF_4, NORMED, ONE_OF_4, Case

CASE = Case(
    "flex_olmo",
    variants={"normed": NORMED, "all": ALL_OF_4, "one": ONE_OF_4},
)
