from parity_case import LLAMA3, Case

CASE = Case(
    "exaone",
    variants={
        "llama3": {"rope_parameters": LLAMA3},
        "every_query_has_its_key": {"num_key_value_heads": None},
    },
    renamed={
        "num_hidden_layers": "num_layers",
        "rms_norm_eps": "layer_norm_epsilon",
        "hidden_act": "activation_function",
    },
)
