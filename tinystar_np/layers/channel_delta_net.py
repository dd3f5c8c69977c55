"""Kimi Delta Attention: the projections, convolutions and gates around the delta rule by channels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import sigmoid, silu, softplus
from tinystar_np.layers.basic import Linear, RMSNorm, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class ChannelDeltaNet(Module):
    """Linear attention with H heads, whose state decays by channels and is corrected.

        q, k, v = activation(convolution(in(input)))
        β       = sigmoid(b(input))                g = A · softplus(decay(input) + bias), K numbers a head
        y       = delta rule by channels(q / |q| / √K, k / |k|, v, g, β)
        result  = out(norm(y) · sigmoid(gate(input)))

    w           linear layers ``in.q``, ``in.k`` and ``in.v`` (D, H·K), ``b`` (D, H), ``out`` (H·K, D);
                ``decay`` and ``gate``, each of two layers with no activation between them, ``down`` (D, K)
                and ``up`` (K, H·K); ``q_convolution``, ``k_convolution`` and ``v_convolution`` (H·K, 1, W);
                ``A_log`` (1, 1, H, 1), where A = −exp(A_log); ``decay.bias`` (H·K,); ``norm.gain`` (K,)
    heads       H
    head_dim    K
    eps         of the norm
    activation  after the convolution
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        head_dim: int,
        eps: float,
        activation: Callable[[NDArray], NDArray] = silu,
    ):
        heads = len(w.heads(heads, heads).heads)  # where ranks share the heads, some
        self.q, self.k, self.v = (Linear(w / f"in.{name}") for name in "qkv")
        self.b = Linear(w / "b")
        self.build_gates(w)
        of_each = [w[f"{name}_convolution.weight"][:, 0] for name in "qkv"]
        self.convolution: NDArray = np.ascontiguousarray(np.concatenate(of_each).T)  # (W, 3·H·K)
        self.A: NDArray = -np.exp(w["A_log"].reshape(heads, 1))
        self.decay_bias: NDArray = w["decay.bias"].reshape(heads, head_dim)
        self.norm = RMSNorm(w / "norm", eps=eps)
        self.out = Linear(w / "out")
        self.heads, self.head_dim, self.activation = heads, head_dim, activation

    def build_gates(self, w: Weights) -> None:
        """Build what makes decays and the gate of the result."""
        self.decay_down, self.decay_up = Linear(w / "decay.down"), Linear(w / "decay.up")
        self.gate_down, self.gate_up = Linear(w / "gate.down"), Linear(w / "gate.up")

    def decays(self, x: NDArray) -> NDArray:
        """Make the logarithms of the decays, at most 0: (B, T, D) → (B, T, H, K)."""
        return self.A * softplus(self.by_heads(self.decay_up(self.decay_down(x))) + self.decay_bias)

    def gate(self, x: NDArray) -> NDArray:
        """Make the gate of the result, before its sigmoid: (B, T, D) → (B, T, H·K)."""
        return self.gate_up(self.gate_down(x))

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: W − 1 inputs of the convolution, and S of each head."""
        width, channels = self.convolution.shape
        S = (batch_size, self.heads, self.head_dim, self.head_dim)
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
        before = (None, None) if state is None else (state["convolution"], state["delta"])
        qkv = np.concatenate(linear_each((self.q, self.k, self.v), x), axis=-1)
        convolved, recent = fast.causal_convolution(qkv, self.convolution, None, before[0])
        convolved = fast.activate(tap("mixer.convolution", convolved), self.activation)
        q, k, v = (self.by_heads(part) for part in np.split(convolved, 3, axis=-1))
        q = tap("mixer.q", fast.unit_vectors(q) * q.dtype.type(self.head_dim**-0.5))
        k, v = tap("mixer.k", fast.unit_vectors(k)), tap("mixer.v", v)
        beta = tap("mixer.beta", sigmoid(self.b(x)))  # (B, T, H)
        g = tap("mixer.channel_decay", self.decays(x))  # (B, T, H, K)
        y, S = fast.channel_delta_rule(q, k, v, g, beta, before[1])
        if state is not None:
            state.replace(convolution=recent, delta=S)
        y = step.wanted(tap("mixer.scan", y))
        gate = self.by_heads(self.gate(step.wanted(x)))
        y = (self.norm(y) * sigmoid(gate)).reshape(*y.shape[:2], -1)
        return tap("mixer.out", self.out(tap("mixer.gated_norm", y)))

    def by_heads(self, x: NDArray) -> NDArray:
        """Divide vectors into heads: (B, T, H·K) → (B, T, H, K)."""
        return x.reshape(*x.shape[:2], self.heads, self.head_dim)
