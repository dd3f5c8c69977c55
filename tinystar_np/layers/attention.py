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
    """Causal self-attention with H heads, in three steps: of them only ``mix`` looks at more than one token.

        project   what each token asks, offers and gives     row by row
        mix       who listens to whom                        across the tokens
        out       what comes of it, for the stream           row by row

    w         ``qkv`` (D, 3·H·K): queries, keys and values in one product, in this order; ``out`` (H·K, D)
    heads     H
    head_dim  K
    scale     what the products q·k are multiplied by, 1/√K in most models
    """

    def __init__(self, w: Weights, *, heads: int, head_dim: int, scale: float):
        self._qkv = Linear(w.qkv)
        self._out = Linear(w.out)
        self.heads = heads
        self.head_dim = head_dim
        self.scale = scale

    @property
    def projected_width(self) -> int:
        """Numbers per token between ``project`` and ``mix``."""
        return 3 * self.heads * self.head_dim

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the keys and values of ``batch_size`` rows."""
        return KeyValueState(batch_size, self.heads, self.head_dim, capacity)

    def project(self, x: NDArray) -> NDArray:
        """Compute queries, keys and values: (..., D) → (..., 3·H·K)."""
        return tap("attention.qkv", self._qkv(x))

    def mix(self, qkv: NDArray, span: Span, state: KeyValueState | None, last_only: bool = False) -> NDArray:
        """Let each token attend to itself and to what came before.

        qkv        (B, T, 3·H·K)
        span       the positions that the T tokens take
        state      keys and values of what came before, extended in place; None where nothing did
        last_only  let only the last token attend; the others give their keys and values

        Returns (B, T, H·K), or (B, 1, H·K) with ``last_only``.
        """
        B, T, _ = qkv.shape
        q, k, v = qkv.reshape(B, T, 3, self.heads, self.head_dim).transpose(
            2, 0, 3, 1, 4
        )  # each (B, H, T, K)
        q, k, v = tap("attention.q", q), tap("attention.k", k), tap("attention.v", v)
        if state is not None:
            k, v = state.append(k, v, span)  # (B, H, S, K)
        if last_only:
            q, span = q[:, :, -1:], span.last
        mixed = tap("attention.mixed", self._attend(q, k, v, span))
        return mixed.transpose(0, 2, 1, 3).reshape(B, -1, self.heads * self.head_dim)

    def out(self, mixed: NDArray) -> NDArray:
        """Turn what the heads brought into a change of the stream: (..., H·K) → (..., D), a new array."""
        return tap("attention.out", self._out(mixed))

    def _attend(self, q: NDArray, k: NDArray, v: NDArray, span: Span) -> NDArray:
        """Choose the form: the definition where it is cheap or somebody looks, blocks elsewhere."""
        if listening():
            scores = tap("attention.scores", attention_scores(q, k, self.scale))
            probabilities = tap("attention.probabilities", attention_probabilities(scores, span.mask()))
            return probabilities @ v
        if q.shape[-2] * k.shape[-2] <= PLAIN_SCORES or q.shape[-2] == 1:
            return attention(q, k, v, span.mask(), self.scale)
        mixed = np.empty_like(q)
        if span.uniform:

            def attend(heads: slice) -> None:
                mixed[:, heads] = blockwise_attention(q[:, heads], k[:, heads], v[:, heads], self.scale)

            divided(attend, slices(self.heads))
        else:
            for b, end in enumerate(span.start + span.length):
                mixed[b] = blockwise_attention(q[b], k[b, :, :end], v[b, :, :end], self.scale)
        return mixed
