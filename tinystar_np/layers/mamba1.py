"""Mamba 1 mixer: the projections, convolution and gate around the selective scan."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import silu, softplus
from tinystar_np.layers.basic import Linear, Norm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class Mamba1(Module):
    """State-space mixer with F channels that each keep N numbers.

        x, z    = in(input)                      one product
        x       = activation(convolution(x))
        δ, B, C = selection(x)                   what the token decides
        Δ       = softplus(time_step(δ))         through R numbers only: a step of its own for each channel
        y       = scan(x, Δ, A, B, C) + D x
        result  = out(y · silu(z))

    Gu & Dao 2023, arXiv:2312.00752, section 3.4.

    w           ``in`` (D, 2·F), a linear layer giving x and z side by side; ``convolution``: ``weight``
                (F, 1, W) and optionally ``bias``; ``selection`` (F, R + 2·N), a linear layer giving δ, B, C;
                ``time_step`` (R, F), a linear layer with bias; ``A_log`` (F, N) and ``D`` (F,), where
                A = −exp(A_log); ``out`` (F, D), a linear layer
    activation  after the convolution; the gate always takes SiLU
    norms       of δ, B and C, which keep the recurrence from growing in large models (Jamba); None for none
    """

    def __init__(
        self,
        w: Weights,
        *,
        activation: Callable[[NDArray], NDArray] = silu,
        norms: tuple[Norm, Norm, Norm] | None = None,
    ):
        self.project = Linear(w / "in")
        self.convolution: NDArray = np.ascontiguousarray(w["convolution.weight"][:, 0].T)  # (W, F)
        self.convolution_bias: NDArray | None = w.get("convolution.bias")
        self.A: NDArray
        self.D: NDArray
        self.build_scan(w)
        self.out = Linear(w / "out")
        self.activation = activation
        self.norms = norms

    def build_scan(self, w: Weights) -> None:
        """Build what the scan needs: the layers that make Δ, B and C; A (N, F) and D (F,)."""
        self.selection = Linear(w / "selection")
        self.time_step = Linear(w / "time_step")
        self.A = -np.exp(np.ascontiguousarray(w["A_log"].T))
        self.D = w["D"]

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: W − 1 inputs of the convolution, and h."""
        width, channels = self.convolution.shape
        return RecurrentState(
            convolution=np.zeros((batch_size, width - 1, channels), dtype=np.float32),
            ssm=np.zeros((batch_size, *self.A.shape), dtype=np.float32),
        )

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and write itself into it.

        x          (B, T, D)
        step       which tokens' results somebody wants; the state knows no positions
        state      what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        x, z = self.halves(tap("mixer.in", self.project(x)))
        before = (None, None) if state is None else (state["convolution"], state["ssm"])
        x, recent = fast.causal_convolution(x, self.convolution, self.convolution_bias, before[0])
        x = tap("mixer.x", fast.activate(tap("mixer.convolution", x), self.activation))
        dt, B, C = self.selected(x)
        y, h = fast.selective_scan(x, dt, self.A, B, C, self.D, before[1])
        if state is not None:
            state.replace(convolution=recent, ssm=h)
        y = tap("mixer.scan", y)
        y, z = step.wanted(y), step.wanted(z)
        return tap("mixer.out", self.out(tap("mixer.gated", fast.gated_activation(z, y, silu))))

    def halves(self, projected: NDArray) -> tuple[NDArray, NDArray]:
        """Take x and z, (B, T, F) each, out of their product (B, T, 2F): views."""
        F = len(self.D)
        return projected[..., :F], projected[..., F:]

    def selected(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Let the tokens (B, T, F) decide: Δ (B, T, F), B and C (B, T, N)."""
        N = len(self.A)
        selected = tap("mixer.selection", self.selection(x))
        dt, B, C = selected[..., : -2 * N], selected[..., -2 * N : -N], selected[..., -N:]
        if self.norms is not None:
            dt, B, C = (norm(each) for norm, each in zip(self.norms, (dt, B, C), strict=True))
        B, C = tap("mixer.B", B), tap("mixer.C", C)
        dt = tap("mixer.time_step", fast.activate(self.time_step(dt), softplus))
        return dt, B, C
