from parity_case import Case, windows

CASE = Case(
    "mistral",
    small={"sliding_window": 5},
    variants=windows("sliding_window", 1, 2, 17, 64, 69, 70, 71, None),
    # Shorter and longer than a block of keys.
    long=(
        ({"sliding_window": 100}, 1500),
        ({"sliding_window": 700}, 1500),
    ),
)
