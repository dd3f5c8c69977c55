"""Attention layer: the projections around the attention kernel, and the keys and values it remembers."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import (
    attention,
    attention_mean,
    attention_probabilities,
    attention_scores,
    blockwise_attention,
)
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.state import KeyValueState, Seen, SlidingKeyValueState, Span
from tinystar_np.tap import listening, tap
from tinystar_np.threads import divided, slices

# Below this many scores per head the definition is faster: one call for all heads instead of one per block.
PLAIN_SCORES = 64 * 64

Positions = Callable[[NDArray, Span], NDArray]
"""Turns queries or keys (B, H, T, K) by their positions, such as layers/rope.py."""
KeyBias = Callable[[NDArray], NDArray]
"""Maps the positions of keys (..., S) to what is added to their scores (..., H, S), such as ALiBi."""


class Attention:
    """Causal self-attention with H heads of queries and G heads of keys and values.

    w         the projections, linear layers: ``q`` (D, H·K), ``k`` and ``v`` (D, G·K) and ``out`` (H·K, D);
              or instead of the first three ``qkv`` (D, (H+2G)·K), all queries, then all keys, then all values
    heads     H
    head_dim  K
    scale     what the products q·k are multiplied by, 1/√K in most models
    groups    G, which divides H; None for H. Neighbouring queries share a head of keys and values.
    by_group  whether ``qkv`` has the queries, the key and the value of one group side by side, group by group
    rope      turns queries and keys by their positions; None where positions come in elsewhere
    key_bias  adds to the scores by the keys' positions; None for nothing
    window    W, how many positions a token sees, its own included; None for all before it
    """

    name = "attention"

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        head_dim: int,
        scale: float,
        groups: int | None = None,
        by_group: bool = False,
        rope: Positions | None = None,
        key_bias: KeyBias | None = None,
        window: int | None = None,
    ):
        self.qkv = Linear(w.qkv) if w.qkv else None
        if self.qkv is None:
            self.q, self.k, self.v = Linear(w.q), Linear(w.k), Linear(w.v)
        self.out = Linear(w.out)
        self.heads = heads
        self.groups = heads if groups is None else groups
        self.head_dim = head_dim
        self.scale = scale
        self.by_group = by_group
        self.rope = rope
        self.key_bias = key_bias
        self.window = window

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the keys and values of ``batch_size`` rows."""
        if self.window is None:
            return KeyValueState(batch_size, self.groups, self.head_dim, capacity)
        return SlidingKeyValueState(batch_size, self.groups, self.head_dim, self.window, capacity)

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
        asking = span.last if last_only else span
        q, k, v = self._projected(x, last_only)
        if self.rope is not None:
            q = tap("attention.q_turned", self.rope(q, asking))
            k = tap("attention.k_turned", self.rope(k, span))
        seen = Seen(k, v, np.arange(span.end)) if state is None else state.append(k, v, span)
        mixed = tap("attention.mixed", self._attend(q, seen, asking))
        mixed = mixed.transpose(0, 2, 1, 3).reshape(*mixed.shape[:1], -1, self.heads * self.head_dim)
        return tap("attention.out", self.out(mixed))

    def _projected(self, x: NDArray, last_only: bool) -> tuple[NDArray, NDArray, NDArray]:
        """Make queries (B, H, T, K), or (B, H, 1, K) with ``last_only``, keys and values (B, G, T, K)."""
        B, T, _ = x.shape
        H, G, K = self.heads, self.groups, self.head_dim
        if self.qkv is None:
            q, k, v = self.q(x[:, -1:] if last_only else x), self.k(x), self.v(x)
        else:
            qkv = tap("attention.qkv", self.qkv(x))
            if self.by_group:
                qkv = qkv.reshape(B, T, G, H // G + 2, K)
                q, k, v = qkv[..., :-2, :], qkv[..., -2, :], qkv[..., -1, :]
            else:
                q, k, v = qkv[..., : H * K], qkv[..., H * K : (H + G) * K], qkv[..., (H + G) * K :]
            q = q[:, -1:] if last_only else q
        return (
            tap("attention.q", q.reshape(B, -1, H, K).transpose(0, 2, 1, 3)),
            tap("attention.k", k.reshape(B, T, G, K).transpose(0, 2, 1, 3)),
            tap("attention.v", v.reshape(B, T, G, K).transpose(0, 2, 1, 3)),
        )

    def _attend(self, q: NDArray, seen: Seen, span: Span) -> NDArray:
        """Choose the form: the definition where it is cheap or somebody looks, blocks elsewhere."""
        k, v, positions = seen
        bias = None
        if self.key_bias is not None:
            bias = span.once(self.key_bias, partial(self.key_bias, positions))
        if listening():
            mask = span.mask(positions, self.window)
            scores = tap("attention.scores", attention_scores(q, k, self.scale, bias))
            probabilities = tap("attention.probabilities", attention_probabilities(scores, mask))
            return attention_mean(probabilities, v)
        if q.shape[2] * k.shape[2] <= PLAIN_SCORES or q.shape[2] == 1:
            return attention(q, k, v, span.mask(positions, self.window), self.scale, bias)
        if span.uniform:
            return self._blockwise(q, k, v, bias)
        mixed = np.empty_like(q)
        for b, end in enumerate(span.start + span.length):
            own = positions if positions.ndim == 1 else positions[b]  # in order
            held = slice(int(np.searchsorted(own, 0)), int(np.searchsorted(own, end)))
            row = slice(b, b + 1)
            some_bias = None if bias is None else (bias if positions.ndim == 1 else bias[b])[:, held]
            mixed[row] = self._blockwise(q[row], k[row, :, held], v[row, :, held], some_bias)
        return mixed

    def _blockwise(self, q: NDArray, k: NDArray, v: NDArray, bias: NDArray | None) -> NDArray:
        """Attend in blocks, the heads divided among threads."""
        mixed = np.empty_like(q)
        queries_per_group = self.heads // self.groups

        def attend(some: slice) -> None:
            if self.groups == 1:  # one head of keys for all: the queries are divided
                heads, groups = some, slice(0, 1)
            else:
                heads, groups = slice(some.start * queries_per_group, some.stop * queries_per_group), some
            mixed[:, heads] = blockwise_attention(
                q[:, heads],
                k[:, groups],
                v[:, groups],
                self.scale,
                None if bias is None else bias[heads],
                self.window,
            )

        divided(attend, slices(self.heads if self.groups == 1 else self.groups, q.shape[2]))
        return mixed
