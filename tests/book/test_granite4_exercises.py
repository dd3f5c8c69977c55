"""The exercises of docs/from_gpt2/granite4.md, solved."""

import numpy as np
from from_gpt2 import hollow, random_model

from tinystar_np.inspection.memory import state_sizes


def test_the_fixed_state_of_h_tiny() -> None:
    of_a_layer = 48 * 64 * 128 + 3 * (3072 + 2 * 128)  # numbers
    own, *_ = state_sizes(hollow("Granite 4 H-Tiny"))
    assert own.fixed == 36 * of_a_layer * 4 == 58_060_800


def test_where_the_hybrid_needs_less() -> None:
    # A token adds keys and values in 4 layers, or in 40.
    of_a_layer = 2 * 4 * 128 * 4
    fixed = 58_060_800
    # fixed + 4 n < 40 n, in units of a layer's keys and values
    n = fixed / (36 * of_a_layer)
    assert 393 < n < 394
    hybrid, *others = state_sizes(hollow("Granite 4 H-Tiny"))
    everywhere = next(other for other in others if "GQA" in other.name)
    assert hybrid.at(393) > everywhere.at(393)
    assert hybrid.at(394) < everywhere.at(394)


def test_order_comes_from_the_recurrence() -> None:
    small = {"model_type": "granitemoehybrid", "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "shared_intermediate_size": 48}
    small |= {"num_local_experts": 0, "num_experts_per_tok": 0, "attention_multiplier": 0.35}
    small |= {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
    differences = {}
    for kind in ("attention", "mamba"):
        model = random_model({**small, "layer_types": [kind]}, std=0.3)
        text, other = [3, 1, 4, 15, 9, 2], [15, 4, 1, 3, 9, 2]  # the last token is the same
        differences[kind] = np.abs(model(text)[-1] - model(other)[-1]).max()
    # One layer of attention sees a set of tokens: only rounding differs.
    assert differences["attention"] < 1e-4
    assert differences["mamba"] > 1e-2
