"""Experts that are looked up by the token's id, and feed-forward layers whose factors have limits."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.activations import Activation
from tinystar_np.kernels.hash_routing import scores_of_chosen, with_each_once
from tinystar_np.layers.basic import GatedFeedForward, linear_each
from tinystar_np.layers.experts import Expert, Experts, ExpertsAndShared
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class LimitedExpert(Expert):
    """A gated feed-forward layer whose two factors are kept within limits, before the activation.

    limit   largest gate, and largest absolute value of what it multiplies
    others  as of ``Expert``
    """

    def __init__(self, w: Weights, activation: Activation, limit: float):
        super().__init__(w, activation)
        self.limit = limit

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)
        return self.down(fast.gated_activation(*limited(gate, up, self.limit), self.activation))


class LimitedFeedForward(GatedFeedForward):
    """The feed-forward layer of all tokens; arguments as of ``LimitedExpert``."""

    def __init__(self, w: Weights, activation: Activation, limit: float):
        super().__init__(w, activation)
        self.limit = limit

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)  # (B, T, M) each
        gate, up = tap("feed_forward.gate", gate), tap("feed_forward.up", up)
        hidden = fast.gated_activation(*limited(gate, up, self.limit), self.activation)
        return tap("feed_forward.down", self.down(tap("feed_forward.activation", hidden)))


def limited(gate: NDArray, up: NDArray, limit: float) -> tuple[NDArray, NDArray]:
    """Keep gates up to a limit, and what they multiply within it to both sides; (..., M) each."""
    bound = np.float32(limit)
    return np.minimum(gate, bound), np.clip(up, -bound, bound)


class HashedExpertsAndShared(ExpertsAndShared):
    """Experts, chosen by their scores or by the token's id, and a layer that every token uses.

    table    (V, k), the experts of each token of the vocabulary; None where scores choose
    score    makes scores of what the router says
    factor   what the weights of the chosen ones sum to
    others   as of ``ExpertsAndShared``
    """

    def __init__(
        self,
        experts: Experts,
        shared: LimitedFeedForward,
        table: NDArray | None,
        score: Activation,
        factor: float,
    ):
        super().__init__(experts, shared)
        self.score, self.factor = score, factor
        self.table: NDArray | None = None
        self.times: NDArray | None = None
        if table is not None:
            E = len(experts.experts)
            if not ((table >= 0) & (table < E) & (table == np.floor(table))).all():
                raise CheckpointError(
                    f"A table of experts by token (tid2eid) names others than 0 to {E - 1}."
                )
            self.table, self.times = with_each_once(table.astype(np.intp), E)

    def of_tokens(self, x: NDArray, ids: NDArray[np.integer]) -> NDArray:
        """Map (B, T, D), of the tokens with these ids (B, T), to (B, T, D), a new array."""
        if self.table is None:
            return self(x)
        logits = tap("feed_forward.router", self.experts.router(x))  # (B, T, E)
        chosen, times = self.table[ids], None if self.times is None else self.times[ids]  # (B, T, k)
        weights = scores_of_chosen(logits, chosen, score=self.score, factor=self.factor, times=times)
        chosen, weights = tap("feed_forward.chosen", chosen), tap("feed_forward.weights", weights)
        y = tap("feed_forward.experts", self.experts.mixed(x, chosen, weights)) + self.shared(x)
        return tap("feed_forward.out", y if self.sum is None else self.sum(y))
