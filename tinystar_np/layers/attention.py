"""Attention layer: the projections around the attention kernel, and the keys and values it remembers."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import (
    attention,
    attention_probabilities,
    attention_scores,
    blockwise_attention,
)
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.state import KeyValueState, Span
from tinystar_np.tap import listening, tap
from tinystar_np.threads import divided, slices

# Below this many scores per head the definition is faster: one call for all heads instead of one per block.
PLAIN_SCORES = 64 * 64


class Attention:
    """Causal self-attention with H heads.

    w         ``qkv`` (D, 3·H·K): queries, keys and values in one product, in this order; ``out`` (H·K, D)
    heads     H
    head_dim  K
    scale     what the products q·k are multiplied by, 1/√K in most models
    """

    def __init__(self, w: Weights, *, heads: int, head_dim: int, scale: float):
        self.qkv = Linear(w.qkv)
        self.out = Linear(w.out)
        self.heads = heads
        self.head_dim = head_dim
        self.scale = scale

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the keys and values of ``batch_size`` rows."""
        return KeyValueState(batch_size, self.heads, self.head_dim, capacity)

    def __call__(
        self, x: NDArray, span: Span, state: KeyValueState | None, last_only: bool = False
    ) -> NDArray:
        """Let each token attend to itself and to what came before.

        x          (B, T, D)
        span       the positions that the T tokens take
        state      keys and values of what came before, extended in place; None where nothing did
        last_only  let only the last token attend; the others give their keys and values

        Returns (B, T, D), or (B, 1, D) with ``last_only``; a new array.
        """
        B, T, _ = x.shape
        qkv = tap("attention.qkv", self.qkv(x)).reshape(B, T, 3, self.heads, self.head_dim)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each (B, H, T, K)
        q, k, v = tap("attention.q", q), tap("attention.k", k), tap("attention.v", v)
        if state is not None:
            k, v = state.append(k, v, span)  # (B, H, S, K)
        if last_only:
            q, span = q[:, :, -1:], span.last
        mixed = tap("attention.mixed", self._attend(q, k, v, span))
        mixed = mixed.transpose(0, 2, 1, 3).reshape(B, -1, self.heads * self.head_dim)
        return tap("attention.out", self.out(mixed))

    def _attend(self, q: NDArray, k: NDArray, v: NDArray, span: Span) -> NDArray:
        """Choose the form: the definition where it is cheap or somebody looks, blocks elsewhere."""
        if listening():
            scores = tap("attention.scores", attention_scores(q, k, self.scale))
            probabilities = tap("attention.probabilities", attention_probabilities(scores, span.mask()))
            return probabilities @ v
        if q.shape[-2] * k.shape[-2] <= PLAIN_SCORES or q.shape[-2] == 1:
            return attention(q, k, v, span.mask(), self.scale)
        if span.uniform:
            return self._blockwise(q, k, v)
        ends = enumerate(span.start + span.length)
        return np.concatenate(
            [self._blockwise(q[b : b + 1], k[b : b + 1, :, :end], v[b : b + 1, :, :end]) for b, end in ends]
        )

    def _blockwise(self, q: NDArray, k: NDArray, v: NDArray) -> NDArray:
        """Attend in blocks, the heads divided among threads."""
        mixed = np.empty_like(q)

        def attend(heads: slice) -> None:
            mixed[:, heads] = blockwise_attention(q[:, heads], k[:, heads], v[:, heads], self.scale)

        divided(attend, slices(self.heads, q.shape[-2]))
        return mixed
