"""Feed-forward layer: widen, bend, narrow; each token by itself."""

from collections.abc import Callable

from numpy.typing import NDArray

from tinystar_np.kernels.activations import in_blocks
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap
from tinystar_np.threads import divided, slices


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
        """Map (B, T, D) to (B, T, D), a new array."""
        hidden = tap("feed_forward.up", self.up(x))  # (B, T, F)
        rows = hidden.reshape(-1, hidden.shape[-1])
        divided(lambda some: in_blocks(self.activation, rows[some]), slices(len(rows), len(rows)))  # in place
        return tap("feed_forward.down", self.down(tap("feed_forward.activation", hidden)))
