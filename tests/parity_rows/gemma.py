from parity_case import Case

CASE = Case(
    "gemma", small={"head_dim": 8}, variants={"narrow_heads": {"head_dim": 4}}, old={"hidden_act": "gelu"}
)
