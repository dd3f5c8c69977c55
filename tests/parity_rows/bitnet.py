from parity_case import Case

CASE = Case("bitnet")
