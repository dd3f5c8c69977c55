from typing import Any

from parity_case import Case

CASE = Case(
    "gpt_bigcode",
    learned_positions=True,
    more={"n_positions": 96},
    variants={
        "multi_head": {"multi_query": False},
        "no_scale": {"scale_attn_weights": False},
        "no_scale_multi_head": {"scale_attn_weights": False, "multi_query": False},
        "narrow": {"n_inner": 40},
        "one_head": {"n_head": 1},
        "wide_heads": {"n_head": 2, "n_embd": 64, "n_layer": 3},
    },
    old={"inference_runner": 0, "pre_allocate_kv_cache": True, "validate_runner_input": True}
    | {"max_sequence_length": None, "summary_type": "cls_index"},
    buffers=("transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias"),
    # As in GPT-2: unscaled scores are large, and softmax magnifies their rounding.
    tolerance={"no_scale": 2e-5, "no_scale_multi_head": 2e-5},
)

INERT = "attention_softmax_in_fp32 scale_attention_softmax_in_fp32"
OTHERS: dict[str, list[Any]] = {}
