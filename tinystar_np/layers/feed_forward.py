"""Feed-forward layers: widen, bend, narrow; each token by itself."""

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.activations import Activation
from tinystar_np.layers.linear import Linear, linear_each
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class FeedForward:
    """y = activation(x W_up) W_down.

    w           ``up`` (D, F) and ``down`` (F, D), linear layers
    activation  a function from kernels/activations.py
    """

    def __init__(self, w: Weights, *, activation: Activation):
        self.up = Linear(w.up)
        self.down = Linear(w.down)
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        hidden = tap("feed_forward.up", self.up(x))  # (B, T, F)
        hidden = fast.activate(hidden, self.activation)
        return tap("feed_forward.down", self.down(tap("feed_forward.activation", hidden)))


class GatedFeedForward:
    """y = (activation(x W_gate) ∘ x W_up) W_down: one half decides how much of the other half passes.

    With SiLU it is called SwiGLU, with GELU GeGLU. At the same number of weights it predicts better than the
    plain form; nobody knows why. Shazeer 2020, arXiv:2002.05202.

    w           ``gate`` and ``up`` (D, F), or both in one as ``gate_up`` (D, 2F), the gate first; ``down``
                (F, D); linear layers
    activation  a function from kernels/activations.py
    multipliers
                what the gate is multiplied by before its activation, and what y is
    """

    def __init__(self, w: Weights, *, activation: Activation, multipliers: tuple[float, float] = (1.0, 1.0)):
        self.gate_up = Linear(w.gate_up) if "gate_up.weight" in w else None
        if self.gate_up is None:
            self.gate, self.up = Linear(w.gate), Linear(w.up)
        self.down = Linear(w.down)
        self.activation = activation
        self.multipliers = multipliers

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        of_gate, of_result = self.multipliers
        if self.gate_up is None:
            gate, up = linear_each(x, [self.gate, self.up])
        else:
            both = tap("feed_forward.gate_up", self.gate_up(x))
            F = both.shape[-1] // 2
            gate, up = both[..., :F], both[..., F:]
        gate, up = tap("feed_forward.gate", gate), tap("feed_forward.up", up)  # (B, T, F) each
        if of_gate != 1:
            gate *= gate.dtype.type(of_gate)
        gate = fast.gated_activation(gate, up, self.activation)
        y = tap("feed_forward.down", self.down(tap("feed_forward.activation", gate)))
        if of_result != 1:
            y *= y.dtype.type(of_result)
        return y
