from parity_case import LLAMA3, Case

CASE = Case(
    "iquestcoder",
    small={"head_dim": 8},
    variants={
        "llama3": {"rope_parameters": LLAMA3},
        "all_biases": {"attention_bias": True, "mlp_bias": True},
        "usual_heads": {"head_dim": None},
    },
    buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)
