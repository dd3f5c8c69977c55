"""Gated delta net: the projections, convolution and gate around the delta rule."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.cache.recurrent import MatrixState
from tinystar_np.kernels.activations import sigmoid, silu, softplus
from tinystar_np.kernels.convolution import blockwise_convolution
from tinystar_np.kernels.delta_rule import delta_chunks, delta_step, unit_vectors
from tinystar_np.kernels.norms import rms_norm
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.layers_old.feed_forward import activate  # TODO fast
from tinystar_np.tap import tap
from tinystar_np.threads import divided, head_slices


class GatedDeltaNet:
    """Linear attention with H heads of values and G of queries and keys, which corrects what it remembers.

        q, k, v, z = in(input)                      b, a = in_gates(input)
        q, k, v    = activation(convolution(q, k, v))
        β          = sigmoid(b)                     g = A · softplus(a + bias)
        y          = delta rule(q / |q| / √K, k / |k|, v, g, β)
        result     = out(norm(y) · silu(z))

    The norm stands before the gate, in Mamba 2 after it. Yang et al. 2024, arXiv:2412.06464.

    w           linear layers: ``in`` (D, 2·G·K + 2·H·K_v), giving for each group its query, its key, the
                values of its heads and their z; ``in_gates`` (D, 2·H), for each group the b and the a of its
                heads; ``out`` (H·K_v, D);
                and ``convolution.weight`` (2·G·K + H·K_v, 1, W) for all queries, all keys, all values;
                ``A_log`` and ``time_step_bias`` (H,), where A = −exp(A_log); ``norm.gain`` (K_v,)
    heads       H
    groups      G, which divides H
    head_dim    K
    value_dim   K_v
    eps         of the norm
    activation  after the convolution
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        groups: int,
        head_dim: int,
        value_dim: int,
        eps: float,
        activation: Callable[[NDArray], NDArray] = silu,
    ):
        self.project = Linear(w / "in")
        self.gates = Linear(w / "in_gates")
        # (C, W) as the kernel wants it, but in memory W rows, which it reads one at a time.
        self.convolution: NDArray = np.ascontiguousarray(w["convolution.weight"][:, 0].T).T
        self.A: NDArray = -np.exp(w["A_log"])
        self.time_step_bias: NDArray = w["time_step_bias"]
        self.gain: NDArray = w["norm.gain"]
        self.out = Linear(w / "out")
        self.heads = heads
        self.groups = groups
        self.head_dim = head_dim
        self.value_dim = value_dim
        self.eps = eps
        self.activation = activation

    def new_state(self, batch_size: int, capacity: int) -> MatrixState:
        """Make the state before the first token: W − 1 inputs of the convolution, and S of each head."""
        channels, width = self.convolution.shape
        S = (batch_size, self.heads, self.head_dim, self.value_dim)
        return MatrixState(
            "delta",
            self.groups,
            convolution=np.zeros((batch_size, width - 1, channels), dtype=np.float32),
            delta=np.zeros(S, dtype=np.float32),
        )

    def __call__(self, x: NDArray, step: Step, state: MatrixState | None) -> NDArray:
        """Let each token read what came before out of the state, and correct the state.

        x          (B, T, D)
        step       which tokens' results somebody wants; the state knows no positions
        state      what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        B, T, _ = x.shape
        H, G, K, K_v = self.heads, self.groups, self.head_dim, self.value_dim
        by_group = tap("mixer.in", self.project(x)).reshape(B, T, G, -1)
        ends = 0, K, 2 * K, 2 * K + H // G * K_v, by_group.shape[-1]
        q, k, v, z = (by_group[..., start:end].reshape(B, T, -1) for start, end in pairwise(ends))
        convolved, recent = blockwise_convolution(
            np.concatenate((q, k, v), axis=-1),
            self.convolution,
            None,
            None if state is None else state["convolution"],
        )
        convolved = tap("mixer.convolution", convolved)
        activate(self.activation, convolved)  # in place
        q, k, v = convolved[..., : G * K], convolved[..., G * K : 2 * G * K], convolved[..., 2 * G * K :]
        q, k = (unit_vectors(part.reshape(B, T, G, K)) for part in (q, k))
        q = tap("mixer.q", q * q.dtype.type(K**-0.5))
        k = tap("mixer.k", k)
        v = tap("mixer.v", v.reshape(B, T, H, K_v))
        gates = self.gates(x).reshape(B, T, G, 2, H // G)
        b, a = gates[..., 0, :].reshape(B, T, H), gates[..., 1, :].reshape(B, T, H)
        beta = tap("mixer.beta", sigmoid(b))
        g = tap("mixer.decay", self.A * softplus(a + self.time_step_bias))
        y, after = self._remember(q, k, v, g, beta, state)
        if state is not None:
            state.replace(convolution=recent, **after)
        y = tap("mixer.scan", y)
        gate = z.reshape(B, T, H, K_v)
        y, gate = step.wanted(y), step.wanted(gate)
        y = rms_norm(y, self.gain, self.eps)
        y *= silu(gate)
        return tap("mixer.out", self.out(tap("mixer.gated_norm", y.reshape(B, -1, H * K_v))))

    def _remember(
        self, q: NDArray, k: NDArray, v: NDArray, g: NDArray, beta: NDArray, state: MatrixState | None
    ) -> tuple[NDArray, dict[str, NDArray]]:
        """Choose the form: one step for a single token, chunks with the heads divided among threads.

        Returns y, and what the state is to hold after it.
        """
        if state is not None and v.shape[1] == 1:
            matrix, recent = state.with_room()
            y, (factors, keys, values) = delta_step(q, k, v, g, beta, matrix, recent)
            return y, {"delta": matrix, "factors": factors, "keys": keys, "values": values}
        S = None if state is None else state.whole()
        shape = (len(v), self.heads, self.head_dim, self.value_dim)
        after = np.empty(shape, dtype=v.dtype) if state is None else state.spare("delta")
        y = np.empty(v.shape, dtype=v.dtype)

        def remember(some: tuple[slice, slice]) -> None:
            heads, groups = some
            y[:, :, heads], after[:, heads] = delta_chunks(
                q[:, :, groups],
                k[:, :, groups],
                v[:, :, heads],
                g[:, :, heads],
                beta[:, :, heads],
                None if S is None else S[:, heads],
            )

        divided(remember, head_slices(self.heads, self.groups, q.shape[1]))
        return y, {"delta": after}
