from parity_case import ALL_OF_4, NORMED, Case

CASE = Case(
    "olmoe",
    variants={"normed": NORMED, "all": ALL_OF_4, "clipped": {"clip_qkv": 0.7}},
)
