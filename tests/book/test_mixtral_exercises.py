"""The exercises of docs/from_gpt2/mixtral.md, solved."""

import numpy as np
from from_gpt2 import hollow, random_model

import tinystar_np as ts
from tinystar_np.kernels.activations import silu
from tinystar_np.kernels.experts import top_k_softmax

SMALL = {"model_type": "mixtral", "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48}
SMALL |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def test_from_7_to_47_billion() -> None:
    L, D, M, E = 32, 4096, 14336, 8
    expert = 3 * D * M  # gate, up and down
    # One of eight is there already, as Mistral's feed-forward layer. The router has a column for each.
    added = L * ((E - 1) * expert + D * E)
    mistral, mixtral = hollow("Mistral 7B v0.1").parameters, hollow("Mixtral 8x7B").parameters
    assert mistral + added == mixtral
    assert round(mixtral / 1e9, 1) == 46.7


def test_a_prompt_uses_all_experts() -> None:
    with ts.record("blocks.0.feed_forward.chosen") as taps:
        random_model(SMALL, std=0.3)(np.arange(64))
    chosen = taps["blocks.0.feed_forward.chosen"][0]  # the numbers of two experts for each token
    assert chosen.shape == (64, 2)
    # Were choices even, a token would leave an expert out with probability 6/8, 64 tokens with (6/8)^64.
    assert 8 * (6 / 8) ** 64 < 1e-6
    assert set(chosen.ravel()) == set(range(8))


def test_two_experts_by_hand() -> None:
    model = random_model(SMALL, std=0.3)
    with ts.record("blocks.0.feed_forward*") as taps:
        model([3, 1, 4])
    x = taps["blocks.0.feed_forward_norm"][0, 2]  # what the layer reads of the last token
    w = model.weights
    chosen, weights = top_k_softmax(x @ w["blocks.0.feed_forward.router.weight"], 2)
    result = np.zeros_like(x)
    for e, weight in zip(chosen, weights, strict=True):
        gate, up, down = (
            w[f"blocks.0.feed_forward.experts.{e}.{name}.weight"] for name in ("gate", "up", "down")
        )
        result += weight * ((silu(x @ gate) * (x @ up)) @ down)
    np.testing.assert_allclose(result, taps["blocks.0.feed_forward.experts"][0, 2], atol=1e-5)
