"""Feed-forward layer: widen, bend, narrow; each token by itself."""

from collections.abc import Callable

from numpy.typing import NDArray

from tinystar_np.kernels.activations import in_blocks
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap
from tinystar_np.threads import shares, summed


class FeedForward:
    """y = activation(x W_up) W_down.

    w           ``up`` (D, F) and ``down`` (F, D), linear layers
    activation  a function from kernels/activations.py
    """

    def __init__(self, w: Weights, *, activation: Callable[[NDArray], NDArray]):
        self.up = Linear(w.up)
        self.down = Linear(w.down)
        self.activation = activation
        self._divisible = self.up.divisible and self.down.divisible

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        hidden_units = shares(self.up.weight.shape[1], x.size // x.shape[-1] if self._divisible else 0)
        if len(hidden_units) > 1:
            return self.down.with_bias(summed(lambda some: self._share(x, some), hidden_units))
        hidden = tap("feed_forward.up", self.up(x))  # (B, T, F)
        hidden = tap("feed_forward.activation", in_blocks(self.activation, hidden))
        return tap("feed_forward.down", self.down(hidden))

    def _share(self, x: NDArray, units: slice) -> NDArray:
        """Compute what some of the hidden units add to the output."""
        hidden = in_blocks(self.activation, self.up.some_outputs(x, units))
        return self.down.from_inputs(hidden, units)
