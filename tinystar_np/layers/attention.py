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
from tinystar_np.threads import shares, summed

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
        self._divisible = self.qkv.divisible and self.out.divisible

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
        if state is not None:
            state.make_room(span.end)
        all_heads = shares(self.heads, x.size // x.shape[-1] if self._divisible else 0)
        if len(all_heads) > 1:
            total = summed(lambda some: self._share(x, some, span, state, last_only), all_heads)
            return self.out.with_bias(total)
        B, T, _ = x.shape
        qkv = tap("attention.qkv", self.qkv(x)).reshape(B, T, 3, self.heads, self.head_dim)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each (B, H, T, K)
        q, k, v = tap("attention.q", q), tap("attention.k", k), tap("attention.v", v)
        if last_only:
            q = q[:, :, -1:]
        mixed = tap("attention.mixed", self._mix(q, k, v, span, state, all_heads[0]))
        return tap("attention.out", self.out(_side_by_side(mixed)))

    def _share(
        self, x: NDArray, heads: slice, span: Span, state: KeyValueState | None, last_only: bool
    ) -> NDArray:
        """Compute what some of the heads add to the output."""
        columns = slice(heads.start * self.head_dim, heads.stop * self.head_dim)
        width = self.heads * self.head_dim
        inputs = (x[:, -1:] if last_only else x, x, x)
        q, k, v = (
            self._by_head(self.qkv.some_outputs(y, slice(columns.start + offset, columns.stop + offset)))
            for y, offset in zip(inputs, (0, width, 2 * width), strict=True)
        )
        return self.out.from_inputs(_side_by_side(self._mix(q, k, v, span, state, heads)), columns)

    def _by_head(self, x: NDArray) -> NDArray:
        """Part the heads that stand side by side: (B, T, h·K) → (B, h, T, K), a view."""
        return x.reshape(*x.shape[:2], -1, self.head_dim).transpose(0, 2, 1, 3)

    def _mix(
        self, q: NDArray, k: NDArray, v: NDArray, span: Span, state: KeyValueState | None, heads: slice
    ) -> NDArray:
        """Let queries attend to these keys and values and those before them: (B, h, T, K), or T = 1."""
        asking = span.last if q.shape[-2] < span.length else span
        if state is not None:
            k, v = state.append(k, v, span, heads)  # (B, h, S, K)
        if listening():
            scores = tap("attention.scores", attention_scores(q, k, self.scale))
            probabilities = attention_probabilities(scores, asking.mask())
            return tap("attention.probabilities", probabilities) @ v
        # The definition where it is cheap, blocks elsewhere.
        if q.shape[-2] * k.shape[-2] <= PLAIN_SCORES or q.shape[-2] == 1:
            return attention(q, k, v, asking.mask(), self.scale)
        if span.uniform:
            return blockwise_attention(q, k, v, self.scale)
        rows = zip(q, k, v, span.start + span.length, strict=True)
        return np.stack([blockwise_attention(q, k[:, :end], v[:, :end], self.scale) for q, k, v, end in rows])


def _side_by_side(mixed: NDArray) -> NDArray:
    """Put the heads of a token side by side again: (B, h, T, K) → (B, T, h·K)."""
    B, h, T, K = mixed.shape
    return mixed.transpose(0, 2, 1, 3).reshape(B, T, h * K)
