"""Gated delta net: the projections, convolution and gate around the delta rule."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import sigmoid, silu, softplus
from tinystar_np.layers.basic import Linear, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class GatedDeltaNet(Module):
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
        self.build_projections(w)
        convolution = self.convolution_weight(w)
        self.convolution: NDArray = np.ascontiguousarray(convolution[:, 0].T)  # (W, channels)
        self.A: NDArray = -np.exp(w["A_log"])
        self.time_step_bias: NDArray = w["time_step_bias"]
        self.gain: NDArray = w["norm.gain"]
        self.out = Linear(w / "out")
        own = w.heads(heads, groups)  # where ranks share the heads, some
        self.heads, self.groups = len(own.heads), len(own.groups)
        self.head_dim = head_dim
        self.value_dim = value_dim
        self.eps = eps
        self.activation = activation

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, keys, values and gates."""
        self.project = Linear(w / "in")
        self.gates = Linear(w / "in_gates")

    def convolution_weight(self, w: Weights) -> NDArray:
        """Return the weights of the convolution (2·G·K + H·K_v, 1, W)."""
        return w["convolution.weight"]

    def shares(self, b: NDArray) -> NDArray:
        """Compute β, which share of a difference is written: (B, T, H) → (B, T, H)."""
        return sigmoid(b)

    def projected(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Make all queries, keys and values (B, T, 2·G·K + H·K_v), z (B, T, H·K_v), b and a (B, T, H)."""
        B, T, _ = x.shape
        H, G, K, K_v = self.heads, self.groups, self.head_dim, self.value_dim
        by_group = tap("mixer.in", self.project(x)).reshape(B, T, G, -1)
        ends = 0, K, 2 * K, 2 * K + H // G * K_v, by_group.shape[-1]
        q, k, v, z = (by_group[..., start:end].reshape(B, T, -1) for start, end in pairwise(ends))
        gates = self.gates(x).reshape(B, T, G, 2, H // G)
        b, a = gates[..., 0, :].reshape(B, T, H), gates[..., 1, :].reshape(B, T, H)
        return np.concatenate((q, k, v), axis=-1), z, b, a

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: W − 1 inputs of the convolution, and S of each head."""
        width, channels = self.convolution.shape
        S = (batch_size, self.heads, self.head_dim, self.value_dim)
        return RecurrentState(
            convolution=np.zeros((batch_size, width - 1, channels), dtype=np.float32),
            delta=np.zeros(S, dtype=np.float32),
        )

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and correct the state.

        x          (B, T, D)
        step       which tokens' results somebody wants; the state knows no positions
        state      what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        B, T, _ = x.shape
        H, G, K, K_v = self.heads, self.groups, self.head_dim, self.value_dim
        qkv, z, b, a = self.projected(x)
        before = (None, None) if state is None else (state["convolution"], state["delta"])
        convolved, recent = fast.causal_convolution(qkv, self.convolution, None, before[0])
        convolved = fast.activate(tap("mixer.convolution", convolved), self.activation)
        q, k, v = convolved[..., : G * K], convolved[..., G * K : 2 * G * K], convolved[..., 2 * G * K :]
        q, k = (fast.unit_vectors(part.reshape(B, T, G, K)) for part in (q, k))
        q = tap("mixer.q", q * q.dtype.type(K**-0.5))
        k = tap("mixer.k", k)
        v = tap("mixer.v", v.reshape(B, T, H, K_v))
        beta = tap("mixer.beta", self.shares(b))
        g = tap("mixer.decay", self.A * softplus(a + self.time_step_bias))
        y, S = fast.delta_rule(q, k, v, g, beta, before[1])
        if state is not None:
            state.replace(convolution=recent, delta=S)
        y = step.wanted(tap("mixer.scan", y))
        gate = step.wanted(z.reshape(B, T, H, K_v))
        y = fast.gated_rms_norm(y, gate, self.gain, self.eps, norm_first=True)
        return tap("mixer.out", self.out(tap("mixer.gated_norm", y.reshape(B, -1, H * K_v))))


class SplitGatedDeltaNet(GatedDeltaNet):
    """Gated delta net whose queries, keys and values, z, b and a come out of four matrices.

    w  as in ``GatedDeltaNet``, with ``qkv`` (D, 2·G·K + H·K_v), giving all queries, all keys, all values,
       ``z`` (D, H·K_v), ``b`` and ``a`` (D, H) instead of ``in`` and ``in_gates``
    """

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, keys, values and gates."""
        self.qkv, self.z, self.b, self.a = (Linear(w / name) for name in ("qkv", "z", "b", "a"))

    def projected(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Make all queries, keys and values (B, T, 2·G·K + H·K_v), z (B, T, H·K_v), b and a (B, T, H)."""
        qkv, z, b, a = linear_each((self.qkv, self.z, self.b, self.a), x)
        return tap("mixer.in", qkv), tap("mixer.z", z), b, a
