"""Mixture of experts: a router, the experts it chooses from, and the feed-forward layer beside them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.activations import Activation, sigmoid, silu
from tinystar_np.kernels.clamped_swiglu import clamped_swiglu
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap

Routing = Callable[[NDArray, int], tuple[NDArray[np.integer], NDArray]]
"""From the router's scores (..., E) and k to the chosen experts and their weights, each (..., k)."""


class Experts:
    """Adds up k of E gated feed-forward layers, for each token those that the router scores highest.

    w           ``router`` (D, E), a linear layer; and below ``experts``, numbered from 0, ``gate`` and ``up``
                (D, F), or both in one as ``gate_up`` (D, 2F), the gate first; ``down`` (F, D); linear layers
    experts     E
    per_token   k
    routing     a function from kernels/experts.py
    activation  a function from kernels/activations.py
    weigh_inputs
                whether a weight multiplies what its expert reads, instead of what it gives (Llama 4)
    expert      builds an expert of another kind from its weights; None for gated feed-forward layers

    For one token, k experts are read and the others are not touched.
    """

    def __init__(
        self,
        w: Weights,
        *,
        experts: int,
        per_token: int,
        routing: Routing,
        activation: Activation = silu,
        weigh_inputs: bool = False,
        expert: Callable[[Weights], "ClampedExpert"] | None = None,
    ):
        self.router = Linear(w.router)
        self.experts: list[_Expert | ClampedExpert] = []
        for e in range(experts):
            its = w.experts.branch(str(e))
            self.experts.append(_Expert(its, activation) if expert is None else expert(its))
        self.per_token = per_token
        self.routing = routing
        self.weigh_inputs = weigh_inputs

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        logits = tap("feed_forward.router", self.router(x))  # (B, T, E)
        chosen, weights = self.routing(logits, self.per_token)  # (B, T, k) each
        chosen = tap("feed_forward.chosen", chosen)
        weights = tap("feed_forward.weights", weights)
        k = self.per_token
        y = fast.mixture(
            x.reshape(-1, x.shape[-1]),
            chosen.reshape(-1, k),
            weights.reshape(-1, k),
            self.experts,
            self.weigh_inputs,
        )
        return tap("feed_forward.experts", y.reshape(x.shape))


class _Expert:
    """A gated feed-forward layer for the tokens that chose it.

    Arguments are those of ``GatedFeedForward``. Its intermediates have no taps: they are rows of some tokens
    only, and each expert's would overwrite the last one's.
    """

    def __init__(self, w: Weights, activation: Activation):
        # Asked for by its full name: to find a branch empty takes a look at all names, and experts are many.
        self.gate_up = Linear(w.gate_up) if "gate_up.weight" in w else None
        if self.gate_up is None:
            self.gate, self.up = Linear(w.gate), Linear(w.up)
        self.down = Linear(w.down)
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        if self.gate_up is None:
            gate, up = self.gate(x), self.up(x)
        else:
            both = self.gate_up(x)
            F = both.shape[-1] // 2
            gate, up = both[..., :F], both[..., F:]
        return self.down(fast.gated_activation(gate, up, self.activation))


class ClampedExpert:
    """An expert of gpt-oss, see kernels/clamped_swiglu.py.

    w             linear layers ``gate_up`` (D, 2F), gates and ups in turns, and ``down`` (F, D)
    alpha, limit  of the clamped SwiGLU
    """

    activation = staticmethod(clamped_swiglu)

    def __init__(self, w: Weights, *, alpha: float, limit: float):
        self.gate_up = Linear(w.gate_up)
        self.down = Linear(w.down)
        self.alpha, self.limit = alpha, limit

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        gate_up = self.gate_up(x)
        return self.down(clamped_swiglu(gate_up[..., ::2], gate_up[..., 1::2], self.alpha, self.limit))


class RoutedAndShared:
    """y = routed(x) + shared(x): what every token needs stands once, and the experts learn the rest.

    Dai et al. 2024 (DeepSeekMoE), arXiv:2401.06066. With a gate (Qwen2-MoE, arXiv:2407.10671):

        y = routed(x) + sigmoid(x w) · shared(x)

    routed  such as ``Experts``
    shared  a feed-forward layer
    gate    a linear layer to one number, x w; None for no gate
    """

    def __init__(
        self,
        *,
        routed: Callable[[NDArray], NDArray],
        shared: Callable[[NDArray], NDArray],
        gate: Linear | None = None,
    ):
        self.routed = routed
        self.shared = shared
        self.gate = gate

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        y = self.routed(x)
        shared = self.shared(x)
        if self.gate is not None:
            shared *= sigmoid(tap("feed_forward.shared_gate", self.gate(x)))  # (B, T, 1)
        y += shared
        return tap("feed_forward.out", y)
