"""Per-layer embeddings as layers: the table before the first block, and what each block makes of its part."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import Step
from tinystar_np.kernels.activations import Activation
from tinystar_np.kernels.per_layer_embeddings import per_layer_inputs
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap

PER_LAYER = "per-layer inputs"
"""With the layer's number, the key under which a step hands them to the blocks."""


class PerLayerTable(Module):
    """What each layer reads of each token: a row of a table, and a projection of the token's embedding.

    table    ``weight`` (V, L·J)
    w        ``context`` (D, L·J), a linear layer, and ``norm.gain`` (J,)
    rows     V
    eps      of the norm
    """

    def __init__(self, table: Weights, w: Weights, *, rows: int, eps: float):
        self.rows = rows
        self.table, self.context = Embedding(table), Linear(w / "context")
        self.norm = RMSNorm(w / "norm", eps=eps)

    def __call__(self, ids: NDArray[np.integer], x: NDArray, step: Step) -> None:
        """Hand each layer its vectors, by way of the step.

        ids   (B, T); those that the table does not have are read as 0
        x     (B, T, D), the embedding
        step  receives (B, T, J) for each layer
        """
        D, J = np.float32(x.shape[-1]), np.float32(len(self.norm.gain))
        tokens = self.table(np.where(ids < self.rows, ids, 0)) * np.sqrt(J)
        context = self.context(x) / np.sqrt(D)
        inputs = per_layer_inputs(tokens, context, self.norm.gain, self.norm.eps)
        inputs = tap("embedding.per_layer", inputs)  # (B, T, L, J)
        for i in range(inputs.shape[2]):
            step.give((PER_LAYER, i), inputs[:, :, i])


class PerLayerInput(Module):
    """What a layer makes of its own vector of each token: (activation(x W_gate) ∘ p) W_out.

    w           linear layers ``gate`` (D, J) and ``out`` (J, D)
    number      of the layer
    activation  of the gate
    """

    def __init__(self, w: Weights, *, number: int, activation: Activation):
        self.gate, self.out = Linear(w / "gate"), Linear(w / "out")
        self.activation = activation
        self.reads = ((PER_LAYER, number),)

    def __call__(self, x: NDArray, step: Step) -> NDArray:
        """Map the stream (B, T, D) of the wanted tokens to (B, T, D), a new array."""
        p = step.wanted(step.given(*self.reads))  # (B, T, J)
        gate = tap("per_layer.gate", self.gate(x))
        return tap(
            "per_layer.out", self.out(tap("per_layer.gated", fast.gated_activation(gate, p, self.activation)))
        )
