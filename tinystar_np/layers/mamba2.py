"""Mamba 2 mixer: the projections, convolution and gate around the state-space model."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import silu, softplus
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.ranks import Division
from tinystar_np.tap import tap


class Mamba2(Module):
    """State-space mixer with H heads of width P, whose B and C are shared by G groups of heads.

        z, x, B, C, Δ = in(input)                one product
        x, B, C       = activation(convolution(x, B, C))
        Δ             = softplus(Δ + bias), within the limits
        y             = scan(x, Δ, A, B, C) + D x
        result        = out(norm(y · silu(z)))

    All that the recurrence needs comes out of the first product, so that heads can be divided among machines;
    in Mamba 1, B, C and Δ are computed from x. The norm after the gate is new, too. Dao & Gu 2024,
    arXiv:2405.21060, section 7.

    w                ``in`` (D, 2·H·P + 2·G·N + H), a linear layer giving z, x, B, C, Δ side by side;
                     ``convolution``: ``weight`` (H·P + 2·G·N, 1, W) and optionally ``bias``;
                     ``A_log``, ``D`` and ``time_step_bias`` (H,), where A = −exp(A_log);
                     ``gated_norm.gain`` (H·P,), normed in G parts, without which y is gated only;
                     ``out`` (H·P, D), a linear layer
    heads            H
    head_dim         P
    groups           G, which divides H
    state_size       N
    eps              of the norm
    activation       after the convolution; the gate always takes SiLU
    time_step_limit  least and largest Δ
    norm_first       whether the gate comes after the norm
    multipliers      what z, x, B, C and Δ are multiplied by as they come out of ``in``; None for nothing

    Where ranks share the heads (ranks/), each has the groups of its heads. With fewer groups than ranks, B
    and C of a group are computed on several, and the norm adds up their sums of squares.
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        head_dim: int,
        groups: int,
        state_size: int,
        eps: float,
        activation: Callable[[NDArray], NDArray] = silu,
        time_step_limit: tuple[float, float] = (0.0, math.inf),
        norm_first: bool = False,
        multipliers: Sequence[float] | None = None,
    ):
        own = w.heads(heads, groups)  # where ranks share the heads, some
        self.group_mean: Callable[[NDArray], NDArray] | None = None
        """What makes the mean over a group, where several ranks have parts of it."""
        if w.division is not None and groups < w.division.ranks.size:
            self.group_mean = partial(
                mean_of_group, division=w.division, group=own.groups.start, groups=groups,
                width=heads * head_dim // groups,
            )  # fmt: skip
        heads, groups = len(own.heads), len(own.groups)
        self.project = Linear(w / "in")
        self.convolution: NDArray = np.ascontiguousarray(w["convolution.weight"][:, 0].T)  # (W, channels)
        self.convolution_bias: NDArray | None = w.get("convolution.bias")
        self.A: NDArray = -np.exp(w["A_log"])
        self.D: NDArray = w["D"]
        self.time_step_bias: NDArray = w["time_step_bias"]
        self.gain: NDArray | None = w.get("gated_norm.gain")
        self.out = Linear(w / "out")
        self.heads = heads
        self.head_dim = head_dim
        self.groups = groups
        self.state_size = state_size
        self.eps = eps
        self.activation = activation
        self.time_step_limit = time_step_limit
        self.norm_first = norm_first
        sizes = heads * head_dim, heads * head_dim, groups * state_size, groups * state_size, heads
        self.multipliers: NDArray | None = (
            None if multipliers is None else np.repeat(np.array(multipliers, dtype=np.float32), sizes)
        )

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: W − 1 inputs of the convolution, and h of each head."""
        width, channels = self.convolution.shape
        h = (batch_size, self.heads, self.head_dim, self.state_size)
        return RecurrentState(
            convolution=np.zeros((batch_size, width - 1, channels), dtype=np.float32),
            ssm=np.zeros(h, dtype=np.float32),
        )

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and write itself into it.

        x          (B, T, D)
        step       which tokens' results somebody wants; the state knows no positions
        state      what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        batch, T, _ = x.shape
        H, P, G, N = self.heads, self.head_dim, self.groups, self.state_size
        inner = H * P
        projected = tap("mixer.in", self.project(x))
        if self.multipliers is not None:
            projected = projected * self.multipliers
        z, xBC, dt = projected[..., :inner], projected[..., inner:-H], projected[..., -H:]
        before = (None, None) if state is None else (state["convolution"], state["ssm"])
        convolved, recent = fast.causal_convolution(xBC, self.convolution, self.convolution_bias, before[0])
        convolved = fast.activate(tap("mixer.convolution", convolved), self.activation)
        x = tap("mixer.x", convolved[..., :inner].reshape(batch, T, H, P))
        B = tap("mixer.B", convolved[..., inner : inner + G * N].reshape(batch, T, G, N))
        C = tap("mixer.C", convolved[..., inner + G * N :].reshape(batch, T, G, N))
        dt = tap("mixer.time_step", np.clip(softplus(dt + self.time_step_bias), *self.time_step_limit))
        y, h = fast.ssm_scan(x, dt, self.A, B, C, self.D, before[1])
        if state is not None:
            state.replace(convolution=recent, ssm=h)
        y = tap("mixer.scan", y.reshape(batch, T, inner))
        y, z = step.wanted(y), step.wanted(z)
        if self.gain is None:
            y = tap("mixer.gated", fast.gated_activation(z, y, silu))
        else:
            y = tap("mixer.gated_norm", self.normed(y, z, self.gain))
        return tap("mixer.out", self.out(y))

    def normed(self, y: NDArray, z: NDArray, gain: NDArray) -> NDArray:
        """Gate and norm the scan's result (B, T, H·P) in groups; y may be overwritten."""
        if self.group_mean is None:
            return fast.gated_rms_norm(y, z, gain, self.eps, self.groups, self.norm_first)
        gate = silu(z)
        if not self.norm_first:
            y = y * gate
        y = y / np.sqrt(self.group_mean(y * y) + y.dtype.type(self.eps)) * gain
        return y * gate if self.norm_first else y


def mean_of_group(x: NDArray, *, division: Division, group: int, groups: int, width: int) -> NDArray:
    """Return the mean over a group of features, of which other ranks have parts as well: (…, n) → (…, 1).

    x       (…, n), this rank's part of the group
    group   which of the groups it is
    groups  G
    width   how many features the group has on all ranks
    """
    sums = np.zeros((*x.shape[:-1], groups), dtype=x.dtype)
    sums[..., group] = x.sum(axis=-1)
    return division.ranks.sum(sums)[..., group : group + 1] / x.dtype.type(width)
