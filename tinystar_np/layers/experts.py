"""Mixture of experts: a router, the experts it chooses from, and the feed-forward layer beside them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.experts import grouped_mixture
from tinystar_np.layers.feed_forward import Activation, activate
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap

Routing = Callable[[NDArray, int], tuple[NDArray[np.integer], NDArray]]
"""From the router's scores (..., E) and k to the chosen experts and their weights, each (..., k)."""


class Experts:
    """Adds up k of E gated feed-forward layers, for each token those that the router scores highest.

    w           ``router`` (D, E), a linear layer; and below ``experts``, numbered from 0, ``gate_up``
                (D, 2F), the gate first, and ``down`` (F, D), linear layers
    experts     E
    per_token   k
    routing     a function from kernels/experts.py
    activation  a function from kernels/activations.py

    For one token, k experts are read and the others are not touched.
    """

    def __init__(self, w: Weights, *, experts: int, per_token: int, routing: Routing, activation: Activation):
        self.router = Linear(w.router)
        self.experts = [_Expert(w.experts.branch(str(e)), activation) for e in range(experts)]
        self.per_token = per_token
        self.routing = routing

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        logits = tap("feed_forward.router", self.router(x))  # (B, T, E)
        chosen, weights = self.routing(logits, self.per_token)  # (B, T, k) each
        chosen = tap("feed_forward.chosen", chosen)
        weights = tap("feed_forward.weights", weights)
        k = self.per_token
        y = grouped_mixture(
            x.reshape(-1, x.shape[-1]), chosen.reshape(-1, k), weights.reshape(-1, k), self.experts
        )
        return tap("feed_forward.experts", y.reshape(x.shape))


class _Expert:
    """A gated feed-forward layer for the tokens that chose it.

    Its intermediates have no taps: they are rows of some tokens only, and each expert's would overwrite the
    last one's.
    """

    def __init__(self, w: Weights, activation: Activation):
        self.gate_up = Linear(w.gate_up)
        self.down = Linear(w.down)
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        gate, up = np.split(self.gate_up(x), 2, axis=-1)
        activate(self.activation, gate, up)
        return self.down(gate)


class RoutedAndShared:
    """y = routed(x) + shared(x): what every token needs stands once, and the experts learn the rest.

    Dai et al. 2024 (DeepSeekMoE), arXiv:2401.06066.

    routed  such as ``Experts``
    shared  a feed-forward layer
    """

    def __init__(self, *, routed: Callable[[NDArray], NDArray], shared: Callable[[NDArray], NDArray]):
        self.routed = routed
        self.shared = shared

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        y = self.routed(x)
        y += self.shared(x)
        return tap("feed_forward.out", y)
