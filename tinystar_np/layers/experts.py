"""Mixture of experts: a router, and the feed-forward layers that it chooses from."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.activations import Activation, sigmoid
from tinystar_np.layers.basic import FeedForward, GatedFeedForward, Linear, linear_each, one_sum
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Join, Weights
from tinystar_np.ranks import Division
from tinystar_np.tap import tap

Routing = Callable[[NDArray, int], tuple[NDArray[np.integer], NDArray]]
"""A rule of kernels/experts.py: router logits (..., E), k → chosen experts and weights, (..., k) each."""

RoutedExpert = Callable[[NDArray], NDArray]
"""A layer for the tokens that chose it: (n, D) → (n, D)."""


class Experts(Module):
    """Adds up k of E feed-forward layers, for each token those that the router scores highest.

    w                ``router`` (D, E), a linear layer, and in some models ``bias`` (D,), added to the sum
    experts          the E layers, each from (n, D) to (n, D), such as ``Expert``
    per_token        k
    routing          how experts are chosen and weighted
    weigh_inputs     whether a weight multiplies what its expert reads, instead of what it gives (Llama 4)
    without_weights  how many of the experts, the last ones, have none (LongCat)

    For one token, k experts are read and the others are not touched. Where ranks share the experts (ranks/),
    each adds up those that it has, and ``join`` makes one result of theirs. Besides, ``agreed`` is a short
    message: 2k numbers for each token.
    """

    def __init__(
        self,
        w: Weights,
        experts: Sequence[RoutedExpert],
        *,
        per_token: int,
        routing: Routing,
        weigh_inputs: bool = False,
        without_weights: int = 0,
    ):
        self.router = Linear(w / "router")
        self.bias: NDArray | None = w.once("bias")
        self.division = w.division
        self.join: Join | None = None if w.division is None else w.division.ranks.sum
        self.experts: Sequence[RoutedExpert | None] = experts
        if w.division is not None:
            self.experts = own_experts(experts, w.division, without_weights)
        self.per_token = per_token
        self.routing = routing
        self.weigh_inputs = weigh_inputs

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        return tap("feed_forward.experts", self.mixed(x, *self.routed(x)))

    def routed(self, x: NDArray) -> tuple[NDArray[np.integer], NDArray]:
        """Choose the experts of each token (B, T, D), and their weights: (B, T, k) each."""
        logits = tap("feed_forward.router", self.router(x))  # (B, T, E)
        chosen, weights = self.agreed(*self.routing(logits, self.per_token))
        return tap("feed_forward.chosen", chosen), tap("feed_forward.weights", weights)

    def agreed(self, chosen: NDArray[np.integer], weights: NDArray) -> tuple[NDArray[np.integer], NDArray]:
        """Return the chosen experts and their weights (..., k), which are those of rank 0 on all ranks.

        Ranks on other processors may round scores otherwise; one expert would then be added twice, and
        another by none.
        """
        if self.division is None:
            return chosen, weights
        both = self.division.agreed(np.concatenate((chosen.astype(weights.dtype), weights), axis=-1))
        return both[..., : self.per_token].astype(np.intp), both[..., self.per_token :]

    def mixed(self, x: NDArray, chosen: NDArray[np.integer], weights: NDArray) -> NDArray:
        """Add up the experts' results: (B, T, D) and what ``routed`` gives → (B, T, D)."""
        k = self.per_token
        y = fast.mixture(
            x.reshape(-1, x.shape[-1]),
            chosen.reshape(-1, k),
            weights.reshape(-1, k),
            self.experts,
            self.weigh_inputs,
        )
        if self.bias is not None:
            y += self.bias
        return (y if self.join is None else self.join(y)).reshape(x.shape)


def own_experts(
    experts: Sequence[RoutedExpert], division: Division, without_weights: int = 0
) -> list[RoutedExpert | None]:
    """Return the experts of this rank, None in place of those of others; rank 0 has those without weights."""
    count = len(experts) - without_weights
    own = division.experts(count)
    has = [e in own or (e >= count and division.ranks.rank == 0) for e in range(len(experts))]
    return [expert if mine else None for expert, mine in zip(experts, has, strict=True)]


class Expert(Module):
    """A gated feed-forward layer for the tokens that chose it; arguments as of ``GatedFeedForward``.

    Its intermediates have no taps: they are rows of some tokens only, and each expert's would overwrite the
    last one's.
    """

    def __init__(self, w: Weights, activation: Activation):
        self.gate, self.up, self.down = (Linear(w / name) for name in ("gate", "up", "down"))
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)
        return self.down(fast.gated_activation(gate, up, self.activation))


def gated_experts(w: Weights, count: int, activation: Activation) -> list[Expert]:
    """Build the experts that ``w`` numbers from 0."""
    return [Expert(w / str(e), activation) for e in range(count)]


class ExpertsAndShared(Module):
    """Experts, and a feed-forward layer that every token uses: y = share · (experts(x) + shared(x)).

    What every token needs stands once, and the experts learn the rest. Dai et al. 2024 (DeepSeekMoE),
    arXiv:2401.06066. Ranks add up both at once.

    experts  the routed ones
    shared   a feed-forward layer
    share    1 for the sum, ½ for the mean
    """

    def __init__(self, experts: Experts, shared: FeedForward | GatedFeedForward, share: float = 1.0):
        self.experts, self.shared, self.share = experts, shared, share
        self.sum = one_sum(experts, shared.down)

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        y = self.experts(x) + self.shared(x)
        y = y if self.sum is None else self.sum(y)
        return tap("feed_forward.out", y if self.share == 1 else y * np.float32(self.share))


class ExpertsAndGatedShared(Module):
    """Experts, and a gated layer that every token uses: y = experts(x) + sigmoid(gate(x)) · shared(x).

    Ranks add up both at once: the gate multiplies each rank's part.

    experts  the routed ones
    shared   a feed-forward layer
    gate     a linear layer (D, 1)
    """

    def __init__(self, experts: Experts, shared: FeedForward | GatedFeedForward, gate: Linear):
        self.experts, self.shared, self.shared_gate = experts, shared, gate
        self.sum = one_sum(experts, shared.down)

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate = sigmoid(tap("feed_forward.shared_gate", self.shared_gate(x)))  # (B, T, 1)
        y = self.experts(x) + gate * self.shared(x)
        return tap("feed_forward.out", y if self.sum is None else self.sum(y))
