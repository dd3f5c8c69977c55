"""Griffin's recurrent mixer: the projections, convolution and gates around the RG-LRU."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import Activation, sigmoid
from tinystar_np.kernels.rg_lru import block_diagonal, log_decay
from tinystar_np.layers.basic import Linear, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class BlockLinear(Module):
    """Linear map of each head by itself.

    w  ``weight`` (H, P, P), each (in, out), and ``bias`` (H, P)
    """

    def __init__(self, w: Weights):
        self.weight: NDArray = w["weight"]
        self.bias: NDArray = w["bias"]

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, H·P) to (B, T, H·P), a new array."""
        return block_diagonal(x, self.weight, self.bias)


class RGLRU(Module):
    """Recurrent mixer with C channels, each of which keeps one number.

        x      = convolution(in(input))
        i, r   = σ(blocks of x)                    input gate and recurrence gate, head by head
        y      = RG-LRU(x, i, log a(r, Λ))
        result = out(activation(z(input)) · y)

    De et al. 2024, arXiv:2402.19427, section 2.3.

    w           linear layers ``in`` and ``z`` (D, C), ``out`` (C, D); ``convolution``: ``weight``
                (C, 1, W) and ``bias`` (C,); ``input_gate`` and ``recurrence_gate`` as of ``BlockLinear``,
                where H·P = C; ``decay`` Λ (C,)
    activation  of the gate z
    """

    def __init__(self, w: Weights, activation: Activation):
        self.project, self.z, self.out = Linear(w / "in"), Linear(w / "z"), Linear(w / "out")
        self.convolution: NDArray = np.ascontiguousarray(w["convolution.weight"][:, 0].T)  # (W, C)
        self.convolution_bias: NDArray = w["convolution.bias"]
        self.input_gate = BlockLinear(w / "input_gate")
        self.recurrence_gate = BlockLinear(w / "recurrence_gate")
        self.decay: NDArray = w["decay"]
        self.activation = activation

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: W − 1 inputs of the convolution, and h."""
        width, channels = self.convolution.shape
        return RecurrentState(
            convolution=np.zeros((batch_size, width - 1, channels), dtype=np.float32),
            lru=np.zeros((batch_size, channels), dtype=np.float32),
        )

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and write itself into it.

        x          (B, T, D)
        step       which tokens stand at the beginning of a text, and whose results somebody wants
        state      what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        x, gate = linear_each((self.project, self.z), x)  # (B, T, C) each
        x, gate = tap("mixer.in", x), tap("mixer.z", gate)
        before = (None, None) if state is None else (state["convolution"], state["lru"])
        x, recent = fast.causal_convolution(x, self.convolution, self.convolution_bias, before[0])
        x = tap("mixer.convolution", x)
        input_gate = tap("mixer.input_gate", sigmoid(self.input_gate(x)))
        recurrence_gate = tap("mixer.recurrence_gate", sigmoid(self.recurrence_gate(x)))
        log_a = tap("mixer.decay", log_decay(recurrence_gate, self.decay))
        y, h = fast.rg_lru(x, input_gate, log_a, step.positions == 0, before[1])
        if state is not None:
            state.replace(convolution=recent, lru=h)
        y, gate = step.wanted(tap("mixer.scan", y)), step.wanted(gate)
        return tap("mixer.out", self.out(tap("mixer.gated", fast.gated_activation(gate, y, self.activation))))
