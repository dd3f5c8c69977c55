"""Attention layer: the projections around the attention kernel, and the keys and values it remembers."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import sigmoid
from tinystar_np.layers.attend import DistanceBias, KeyBias, RelativeVectors, attend
from tinystar_np.layers.linear import Linear, linear_each
from tinystar_np.layers.weights import Weights
from tinystar_np.state import ChunkedKeyValueState, KeyValueState, Seen, SlidingKeyValueState, Span
from tinystar_np.tap import tap

Norm = Callable[[NDArray], NDArray]
Positions = Callable[[NDArray, Span], NDArray]
"""Turns queries or keys (B, H, T, K) by their positions, such as layers/rope.py."""


class Attention:
    """Self-attention with H heads of queries and G heads of keys and values.

    w         the projections, linear layers: ``q`` (D, H·K), ``k`` and ``v`` (D, G·K) and ``out`` (H·K, D);
              or instead of the first three ``qkv`` (D, (H+2G)·K), all queries, then all keys, then all values
    heads     H
    head_dim  K
    scale     what the products q·k are multiplied by, 1/√K in most models
    groups    G, which divides H; None for H. Neighbouring queries share a head of keys and values.
    by_group  whether ``qkv`` has the queries, the key and the value of one group side by side, group by group
    rope      turns queries and keys by their positions; None where positions come in elsewhere
    key_bias  adds to the scores by the keys' positions; None for nothing
    window    W: a token sees those fewer than W positions away, its own included; None for no limit
    chunk     C: a token sees no further back than its chunk of C tokens begins; None for no limit
    causal    whether a token sees none behind it. If not, a text must come in one call, without a state.
    distance_bias
              adds to the scores by the distances from queries to keys; None for nothing. For layers that are
              not causal: there a key's position does not tell on which side of a query it stands.
    q_norm, k_norm
              norm queries and keys before they are turned: each head by itself, or all heads of a token as
              one vector with ``norm_together``; None for no norm
    clip      largest absolute value of queries, keys and values, behind the norms; None for any
    soft_cap  c, which scaled scores are bent below; None for no bend

    gated     whether ``q`` (D, 2·H·K) gives for each head, behind its query, a gate: what the head gathers is
              multiplied by its sigmoid, Qiu et al. 2025, arXiv:2505.06708
    temperature
              scales queries, turned or not, by their positions; None for nothing

    ``w.sinks`` (H,), where there are such, is one more score for every query of a head.
    """

    name = "attention"
    relative: RelativeVectors | None = None
    """What distances add to keys and values, in layers that have such vectors."""

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
        chunk: int | None = None,
        causal: bool = True,
        distance_bias: DistanceBias | None = None,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
        norm_together: bool = False,
        clip: float | None = None,
        soft_cap: float | None = None,
        gated: bool = False,
        temperature: Positions | None = None,
    ):
        self.qkv = Linear(w.qkv) if "qkv.weight" in w else None
        if self.qkv is None:
            self.q, self.k, self.v = Linear(w.q), Linear(w.k), Linear(w.v)
        self.out = Linear(w.out)
        self.heads = heads
        self.groups = heads if groups is None else groups
        self.head_dim = self.value_dim = head_dim
        self.scale = scale
        self.by_group = by_group
        self.rope = rope
        self.key_bias = key_bias
        self.window = window
        self.chunk = chunk
        self.causal = causal
        self.distance_bias = distance_bias
        self.q_norm, self.k_norm = q_norm, k_norm
        self.norm_together = norm_together
        self.clip = clip
        self.soft_cap = soft_cap
        self.gated = gated
        self.temperature = temperature
        self.sinks: NDArray | None = w.get("sinks")

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the keys and values of ``batch_size`` rows."""
        shape = batch_size, self.groups, self.head_dim
        if self.chunk is not None:
            return ChunkedKeyValueState(*shape, self.chunk, capacity, self.value_dim)
        if self.window is None:
            return KeyValueState(*shape, capacity, self.value_dim)
        return SlidingKeyValueState(*shape, self.window, capacity, self.value_dim)

    def __call__(
        self, x: NDArray, span: Span, state: KeyValueState | None, last_only: bool = False
    ) -> NDArray:
        """Let each token attend to itself and to what came before; to all, where not causal.

        x          (B, T, D)
        span       the positions that the T tokens take
        state      keys and values of what came before, extended in place; None where nothing did
        last_only  let only the last token attend; the others give their keys and values

        Returns (B, T, D), or (B, 1, D) with ``last_only``; a new array.
        """
        asking = span.last if last_only else span
        q, k, v, gate = self._projected(x, last_only)
        if self.rope is not None:
            q = tap("attention.q_turned", self.rope(q, asking))
            k = tap("attention.k_turned", self.rope(k, span))
        if self.temperature is not None:
            q = tap("attention.q_scaled", self.temperature(q, asking))
        seen = Seen(k, v, np.arange(span.end)) if state is None else state.append(k, v, span)
        mixed = attend(
            q,
            seen,
            asking,
            scale=self.scale,
            window=self.window,
            chunk=self.chunk,
            causal=self.causal,
            key_bias=self.key_bias,
            distance_bias=self.distance_bias,
            relative=self.relative,
            soft_cap=self.soft_cap,
            sinks=self.sinks,
        )
        mixed = tap("attention.mixed", mixed)  # (B, H, T, K)
        mixed = mixed.transpose(0, 2, 1, 3)  # (B, T, H, K)
        if gate is not None:
            mixed = tap("attention.gated", mixed * sigmoid(tap("attention.gate", gate)))
        mixed = mixed.reshape(len(x), -1, self.heads * self.value_dim)
        return tap("attention.out", self.out(mixed))

    def _projected(self, x: NDArray, last_only: bool) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
        """Make queries (B, H, T, K), or (B, H, 1, K) with ``last_only``, keys and values (B, G, T, K).

        The gate, where there is one, is (B, T, H, K), or (B, 1, H, K) with ``last_only``.
        """
        B, T, _ = x.shape
        H, G, K = self.heads, self.groups, self.head_dim  # of values K may be another, K_v
        if self.qkv is not None:
            qkv = tap("attention.qkv", self.qkv(x))
            if self.by_group:
                qkv = qkv.reshape(B, T, G, H // G + 2, K)
                q, k, v = qkv[..., :-2, :], qkv[..., -2, :], qkv[..., -1, :]
            else:
                q, k, v = qkv[..., : H * K], qkv[..., H * K : (H + G) * K], qkv[..., (H + G) * K :]
            q = q[:, -1:] if last_only else q
        elif last_only and T > 1:
            k, v = linear_each(x, [self.k, self.v])
            q = self.q(x[:, -1:])
        else:
            q, k, v = linear_each(x, [self.q, self.k, self.v])
        gate = None
        if self.gated:
            both = q.reshape(B, -1, H, 2 * K)
            q, gate = both[..., :K], both[..., K:]
        q = tap("attention.q", q.reshape(B, -1, H, K).transpose(0, 2, 1, 3))
        k = tap("attention.k", k.reshape(B, T, G, K).transpose(0, 2, 1, 3))
        v = tap("attention.v", v.reshape(B, T, G, self.value_dim).transpose(0, 2, 1, 3))
        if self.q_norm is not None:
            q = tap("attention.q_norm", self._normed(q, self.q_norm))
        if self.k_norm is not None:
            k = tap("attention.k_norm", self._normed(k, self.k_norm))
        if self.clip is not None:
            q, k, v = (np.clip(x, -self.clip, self.clip) for x in (q, k, v))
        return q, k, v, gate

    def _normed(self, x: NDArray, norm: Norm) -> NDArray:
        """Norm queries or keys, each head by itself or all together: (B, heads, T, K) → the same."""
        x = x.transpose(0, 2, 1, 3)  # (B, T, heads, K)
        y = norm(x.reshape(*x.shape[:2], -1)) if self.norm_together else norm(x)
        return y.reshape(x.shape).transpose(0, 2, 1, 3)
