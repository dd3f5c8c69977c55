from parity_case import Case

CASE = Case("olmo2")
