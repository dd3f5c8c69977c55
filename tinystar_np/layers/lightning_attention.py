"""Lightning attention as a layer: the projections, norm and gate around the recurrence."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import sigmoid
from tinystar_np.layers.basic import Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class LightningAttention(Module):
    """Linear attention with H heads, each of which forgets at a constant rate.

        q, k, v = activation(in(input))             z = gate(input)
        S_t     = e^−slope S_{t−1} + k_t v_tᵀ       y_t = S_tᵀ q_t
        result  = out(norm(y) · sigmoid(z))

    Nothing is rotated, no product is scaled; the norm is over all heads together. Qin et al. 2024,
    arXiv:2401.04658; as in MiniMax-01, arXiv:2501.08313.

    w           linear layers: ``in`` (D, 3·H·K), giving for each head its query, its key and its value;
                ``z`` (D, H·K) and ``out`` (H·K, D); ``norm.gain`` (H·K,)
    heads       H
    head_dim    K
    slopes      (H,), how fast each head forgets
    eps         of the norm
    activation  of queries, keys and values
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        head_dim: int,
        slopes: NDArray,
        eps: float,
        activation: Callable[[NDArray], NDArray],
    ):
        self.project, self.z, self.out = Linear(w / "in"), Linear(w / "z"), Linear(w / "out")
        self.norm = RMSNorm(w / "norm", eps=eps)
        own = w.heads(heads, heads).heads  # where ranks share the heads, some
        self.heads, self.head_dim = len(own), head_dim
        self.slopes = slopes[own.start : own.stop]
        self.activation = activation

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: S of each head."""
        S = (batch_size, self.heads, self.head_dim, self.head_dim)
        return RecurrentState(lightning=np.zeros(S, dtype=np.float32))

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and write itself into it.

        x      (B, T, D)
        step   which tokens' results somebody wants; the state knows no positions
        state  what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        B, T, _ = x.shape
        H, K = self.heads, self.head_dim
        qkv = fast.activate(tap("mixer.in", self.project(x)), self.activation).reshape(B, T, H, 3 * K)
        q = tap("mixer.q", qkv[..., :K])  # (B, T, H, K)
        k = tap("mixer.k", qkv[..., K : 2 * K])
        v = tap("mixer.v", qkv[..., 2 * K :])
        before = None if state is None else state["lightning"]
        y, S = fast.lightning_attention(q, k, v, self.slopes, before)
        if state is not None:
            state.replace(lightning=S)
        y = step.wanted(tap("mixer.scan", y))
        z = tap("mixer.z", self.z(step.wanted(x)))
        y = tap("mixer.gated_norm", self.norm(y.reshape(B, -1, H * K)) * sigmoid(z))
        return tap("mixer.out", self.out(y))
