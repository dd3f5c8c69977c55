"""Gated short convolution: a mixer that sees the last few tokens, and chooses what of them."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class ShortConvolution(Module):
    """Causal convolution over W tokens between two gates.

        B, C, x = in(input)                      one product
        y_t     = Σ_j weight_j (B x)_{t − W + 1 + j}        j = 0 … W − 1
        result  = out(C · y)

    B says what of a token goes into the convolution, C what of its result comes out. Each channel sees its
    own last W tokens (kernels/convolution.py), so a layer costs the same at any position, and keeps W − 1
    vectors instead of a cache; what lies further back must come from layers of attention. Mamba's mixer has
    such a convolution before its recurrence, and a gate after it. LFM2, Liquid AI 2025, arXiv:2511.23404;
    gates before and after a convolution: Hyena, Poli et al. 2023, arXiv:2302.10866.

    w  ``in`` (D, 3·D), a linear layer giving B, C and x side by side; ``convolution``: ``weight`` (D, 1, W)
       and optionally ``bias``; ``out`` (D, D), a linear layer
    """

    def __init__(self, w: Weights):
        self.project = Linear(w / "in")
        self.convolution: NDArray = np.ascontiguousarray(w["convolution.weight"][:, 0].T)  # (W, D)
        self.convolution_bias: NDArray | None = w.get("convolution.bias")
        self.out = Linear(w / "out")

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: W − 1 inputs of the convolution."""
        width, channels = self.convolution.shape
        return RecurrentState(convolution=np.zeros((batch_size, width - 1, channels), dtype=np.float32))

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read the last W.

        x      (B, T, D)
        step   which tokens' results somebody wants; the state knows no positions
        state  what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        B, C, x = np.split(tap("mixer.in", self.project(x)), 3, axis=-1)  # (B, T, D) each
        B, C, x = tap("mixer.B", B), tap("mixer.C", C), tap("mixer.x", x)
        gated = tap("mixer.input", B * x)
        before = None if state is None else state["convolution"]
        y, recent = fast.causal_convolution(gated, self.convolution, self.convolution_bias, before)
        if state is not None:
            state.replace(convolution=recent)
        y = step.wanted(tap("mixer.convolution", y))
        return tap("mixer.out", self.out(tap("mixer.gated", step.wanted(C) * y)))
