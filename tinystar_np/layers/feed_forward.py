"""Feed-forward layer: widen, bend, narrow; each token by itself."""

from collections.abc import Callable

from numpy.typing import NDArray

from tinystar_np.kernels.activations import in_blocks
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class FeedForward:
    """y = activation(x W_up) W_down.

    w           ``up`` (D, F) and ``down`` (F, D), linear layers
    activation  a function from kernels/activations.py
    """

    def __init__(self, w: Weights, *, activation: Callable[[NDArray], NDArray]):
        self.up = Linear(w.up)
        self.down = Linear(w.down)
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., D) to (..., D)."""
        hidden = tap("feed_forward.up", self.up(x))  # (..., F)
        hidden = tap("feed_forward.activation", in_blocks(self.activation, hidden))
        return tap("feed_forward.down", self.down(hidden))
