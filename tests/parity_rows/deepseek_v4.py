from typing import Any

from parity_case import LLAMA3, SLIDING, YARN, Case, rope, windows
from switch_values import Other

FEW, MANY = "compressed_sparse_attention", "heavily_compressed_attention"
HASHED, SCORED = "hash_moe", "moe"
HALF = {"partial_rotary_factor": 0.5}


def both(near: dict[str, Any], far: dict[str, Any]) -> dict[str, Any]:
    """Rotations of layers without entries, and of those with them."""
    return {"main": {**HALF, **near}, "compress": {**HALF, **far}}


def ropes(near: dict[str, Any], far: dict[str, Any]) -> dict[str, Any]:
    """The key that says so."""
    return {"rope_parameters": both(near, far)}


def rates(few: int, many: int) -> dict[str, Any]:
    """How many tokens an entry stands for."""
    return {"compress_rates": {FEW: few, MANY: many}}


def layers(*kinds: str, hashed: int = 1) -> dict[str, Any]:
    """As many layers, of these kinds; the first so many look up their experts."""
    experts = [HASHED if i < hashed else SCORED for i in range(len(kinds))]
    return {"layer_types": list(kinds), "mlp_layer_types": experts, "num_hidden_layers": len(kinds)}


CASE = Case(
    "deepseek_v4",
    small={
        # With so many index heads no entry is disliked by all: among exact zeros the choice is arbitrary.
        **{"index_n_heads": 17, "index_head_dim": 8, "index_topk": 2},
        **{"head_dim": 8, "q_lora_rank": 10, "o_groups": 16, "o_lora_rank": 5, "sliding_window": 5},
        **{"num_key_value_heads": 1, "hc_mult": 3, "hc_sinkhorn_iters": 4, "swiglu_limit": 0.5},
        **layers(FEW, MANY),
        **rates(2, 3),
        **ropes(rope(rope_theta=20.0), rope()),
    },
    more={**layers(SLIDING, FEW, MANY), **rates(2, 5)},
    variants={
        **dict.fromkeys(("multi_head", "attention_bias")),  # it has none of these
        "linear": ropes(rope("linear", factor=2.0), rope("linear", rope_theta=50.0, factor=4.0)),
        "yarn": ropes(rope(), YARN),
        "yarn_with_factor": ropes(rope(), {**YARN, "attention_factor": 1.0}),
        "flat": {"rope_parameters": YARN, "rope_theta": 20.0, "compress_rope_theta": 50.0, **HALF},
        "whole_heads": {
            "index_head_dim": 8,
            **ropes(rope(partial_rotary_factor=1.0), rope(partial_rotary_factor=1.0)),
        },
        "one_layer": layers(FEW),
        "many_layers": layers(MANY, MANY, FEW, FEW, SLIDING, hashed=3),
        "no_entries": layers(SLIDING, SLIDING, hashed=0),
        "all_hashed": layers(FEW, MANY, hashed=2),
        "every_token": rates(1, 1),
        "longer_windows": rates(4, 9),
        "long_windows": rates(16, 40),
        "longer_than_the_text": rates(64, 128),
        "one_entry": {"index_topk": 1},
        "seven_entries": {"index_topk": 7},
        "all_entries": {"index_topk": 512},
        "one_stream": {"hc_mult": 1},
        "two_streams": {"hc_mult": 2, "hc_sinkhorn_iters": 20, "hc_eps": 1e-3},
        "one_group": {"o_groups": 1},
        "two_groups": {"o_groups": 2},
        "sigmoid": {"scoring_func": "sigmoid", "routed_scaling_factor": 2.5},
        "no_limit": {"swiglu_limit": 100.0},
        "all_experts": {"num_experts_per_tok": 4},
        **windows("sliding_window", 1, 17, 64, 128),
    },
    tolerance={"many_layers": 2e-5},  # five of them: 5e-6 to 1.03e-5 on one processor, by where a text is cut
)

FLAT = {"rope_parameters": {"rope_type": "default"}, **HALF, "layer_types": [SLIDING, MANY]}
OTHERS: dict[str, list[Any]] = {
    "num_hidden_layers": [Other(3, also={"layer_types": [FEW, MANY, FEW], "mlp_layer_types": [HASHED] * 3})],
    "n_routed_experts": [5],
    "num_experts_per_tok": [1],
    "n_shared_experts": [2],
    "num_key_value_heads": [2],
    "routed_scaling_factor": [2.5],
    "rope_parameters": [
        both(rope(rope_theta=20.0), rope("linear", factor=4.0)),
        both(rope(rope_theta=20.0), YARN),
        both(rope(rope_theta=20.0), LLAMA3),
        both(rope(rope_theta=20.0), rope("dynamic", factor=4.0)),
        Other(both(rope(rope_theta=50.0), rope()), given={"layer_types": [SLIDING, MANY]}),
    ],
    "max_position_embeddings": [Other(1024, given=ropes(rope(), rope("yarn", factor=4.0)))],
    "rope_theta": [Other(50.0, given=FLAT)],
    "compress_rope_theta": [Other(50.0, given=FLAT)],
    "partial_rotary_factor": [Other(0.75, given=FLAT)],
    "qk_rope_head_dim": [Other(6, given={"rope_parameters": FLAT["rope_parameters"], "qk_rope_head_dim": 4})],
    "compress_rate_csa": [3],
    "compress_rate_hca": [5],
    "compress_ratios": [Other([4, 0], given={"layer_types": None})],
    "num_hash_layers": [Other(1, given={"mlp_layer_types": None})],
    "head_dim": [12],
    "q_lora_rank": [12],
    "o_groups": [4],
    "o_lora_rank": [7],
    "index_n_heads": [16],
    "index_head_dim": [6],
    "index_topk": [3],
    "layer_types": [[SLIDING, MANY], [MANY, FEW]],
    "mlp_layer_types": [[SCORED, HASHED]],
    "compress_rates": [{FEW: 3, MANY: 3}, {FEW: 2, MANY: 5}],
    "hc_mult": [2],
    "hc_sinkhorn_iters": [1],
    "hc_eps": [0.1],
    "swiglu_limit": [0.2],
    "scoring_func": ["sigmoid"],
    "sliding_window": [3],
}
INERT = (
    "attention_bias num_nextn_predict_layers output_router_logits router_aux_loss_coef router_jitter_noise"
)
