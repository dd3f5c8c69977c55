"""Experts as a layer: which of them a token touches, what is heard, and one that all tokens use."""

from collections import Counter

import numpy as np

from tinystar_np.kernels.activations import silu
from tinystar_np.kernels.experts import top_k, top_k_softmax
from tinystar_np.layers.basic import FeedForward, GatedFeedForward
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.weights import Weights
from tinystar_np.models.qwen2_moe import Qwen2MoeConfig, feed_forward
from tinystar_np.tap import listen

D, F, E = 6, 5, 7


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def layer_weights() -> dict[str, np.ndarray]:
    arrays = {"router.weight": random(D, E)}
    for e in range(E):
        arrays[f"experts.{e}.gate.weight"] = random(D, F, seed=e)
        arrays[f"experts.{e}.up.weight"] = random(D, F, seed=100 + e)
        arrays[f"experts.{e}.down.weight"] = random(F, D, seed=e)
    return arrays


def layer(arrays: dict[str, np.ndarray], k: int = 2) -> Experts:
    w = Weights(arrays)
    experts = gated_experts(w / "experts", E, silu)
    return Experts(w, experts, per_token=k, routing=top_k_softmax)


def test_one_token_touches_its_own_experts_only() -> None:
    x = random(1, 1, D)
    arrays = layer_weights()
    expected = layer(arrays)(x)
    chosen = top_k(x[0] @ arrays["router.weight"], 2)[0]
    for name, array in arrays.items():
        if name.startswith("experts.") and int(name.split(".")[1]) not in chosen:
            array[:] = np.nan
    np.testing.assert_array_equal(layer(arrays)(x), expected)
    arrays[f"experts.{chosen[1]}.down.weight"][:] = np.nan
    assert np.isnan(layer(arrays)(x)).all()


def test_every_token_is_mapped_by_itself() -> None:
    x = random(3, 11, D)
    experts = layer(layer_weights(), k=3)
    alone = np.stack([[experts(token[None, None])[0, 0] for token in row] for row in x])
    np.testing.assert_allclose(experts(x), alone, rtol=0, atol=1e-6 * np.abs(alone).max())


class Listener:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.arrays: dict[str, np.ndarray] = {}

    def catch(self, path: str, x: np.ndarray) -> np.ndarray:
        self.heard[path] += 1
        self.arrays[path] = x.copy()
        return x


def test_taps_are_heard_once() -> None:
    x = random(2, 9, D)
    experts = layer(layer_weights())
    shared = FeedForward(Weights({"up.weight": random(D, F), "down.weight": random(F, D)}), np.tanh)
    silent = ExpertsAndShared(experts, shared)(x)
    listener = Listener()
    with listen(listener):
        heard = ExpertsAndShared(experts, shared)(x)
    np.testing.assert_array_equal(heard, silent)
    assert {name: array.shape for name, array in listener.arrays.items()} == {
        "feed_forward.router": (2, 9, E),
        "feed_forward.chosen": (2, 9, 2),
        "feed_forward.weights": (2, 9, 2),
        "feed_forward.experts": (2, 9, D),
        "feed_forward.up": (2, 9, F),
        "feed_forward.activation": (2, 9, F),
        "feed_forward.down": (2, 9, D),
        "feed_forward.out": (2, 9, D),
    }
    assert set(listener.heard.values()) == {1}
    np.testing.assert_array_equal(listener.arrays["feed_forward.out"], silent)
    both = listener.arrays["feed_forward.experts"] + listener.arrays["feed_forward.down"]
    np.testing.assert_array_equal(silent, both)


def test_a_gate_for_the_shared_layer() -> None:
    x = random(2, 9, D)
    arrays = layer_weights() | {
        "shared_gate.weight": random(D, 1),
        "shared.gate.weight": random(D, F),
        "shared.up.weight": random(D, F, seed=1),
        "shared.down.weight": random(F, D),
    }
    config = Qwen2MoeConfig(num_experts=E, num_experts_per_tok=2, norm_topk_prob=True)
    listener = Listener()
    with listen(listener):
        found = feed_forward(Weights(arrays), config, 0)(x)
    gate = x @ arrays["shared_gate.weight"]
    np.testing.assert_allclose(listener.arrays["feed_forward.shared_gate"], gate, rtol=1e-5, atol=1e-6)
    shared = GatedFeedForward(Weights(arrays) / "shared", silu)(x)
    expected = layer(arrays)(x) + shared / (1 + np.exp(-gate))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
