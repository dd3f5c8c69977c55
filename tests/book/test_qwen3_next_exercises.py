"""The exercises of docs/from_gpt2/qwen3_next.md, solved."""

import numpy as np
from from_gpt2 import hollow, own_state, random_model

import tinystar_np as ts
from tinystar_np.kernels.delta_rule import delta_rule


def test_the_fixed_state() -> None:
    of_a_layer = 32 * 128 * 128 + 3 * (2 * 16 * 128 + 32 * 128)  # numbers
    assert own_state(hollow("Qwen3-Next 80B")).fixed == 36 * of_a_layer * 4 == 79_036_416


def test_gates_of_zero() -> None:
    small = {"model_type": "qwen3_next", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48}
    small |= {"num_hidden_layers": 1, "layer_types": ["full_attention"], "mlp_only_layers": [0]}
    H, K = 4, 8
    small |= {"num_attention_heads": H, "num_key_value_heads": 2, "head_dim": K}
    model = random_model(small, std=0.3)
    by_head = model.weights["blocks.0.attention.q.weight"].reshape(32, H, 2, K)  # query, then gate
    assert np.shares_memory(by_head, model.weights["blocks.0.attention.q.weight"])
    by_head[:, :, 1] = 0
    with ts.record("blocks.0.attention.*") as taps:
        model([3, 1, 4])
    # The sigmoid of 0 is a half, for every token and feature: half of each head's output.
    mixed = taps["blocks.0.attention.mixed"].transpose(0, 2, 1, 3)
    np.testing.assert_allclose(taps["blocks.0.attention.gated"], mixed / 2, rtol=1e-5)


def test_half_of_the_difference() -> None:
    # What is missing halves with every repetition: (1/2)^n ≤ 1/100 from n = 7 on.
    assert (1 / 2) ** 6 > 1 / 100 >= (1 / 2) ** 7
    T = 10
    k, v = np.tile([1.0, 0.0], (1, T, 1, 1)), np.ones((1, T, 1, 1))
    y, _ = delta_rule(k, k, v, g=np.zeros((1, T, 1)), beta=np.full((1, T, 1), 0.5))
    held = y[0, :, 0, 0]  # what the state gives under the key after each token
    np.testing.assert_allclose(held, 1 - 0.5 ** np.arange(1, T + 1))
    assert np.argmax(held >= 0.99) + 1 == 7
