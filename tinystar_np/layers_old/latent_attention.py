"""Latent attention layer: the projections around the kernel, and the latents that it remembers."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Seen, Span
from tinystar_np.cache.latent import LatentState, SlidingLatentState
from tinystar_np.kernels.latent_attention import (
    absorbing_is_cheaper,
    latent_attention_absorbed,
    latent_attention_expanded,
)
from tinystar_np.layers_old.attending import DistanceBias, KeyBias, attend
from tinystar_np.layers_old.linear import Linear
from tinystar_np.layers_old.matrices import NarrowMatrix
from tinystar_np.layers_old.norms import RMSNorm
from tinystar_np.layers_old.rope import Rotary
from tinystar_np.layers_old.weights import Weights
from tinystar_np.tap import listening, tap


class LatentAttention:
    """Self-attention whose keys and values are made from one latent per token.

    w          the projections, linear layers: ``kv_down`` (D, R + K_r) makes the latent and the key that is
               turned, ``kv_norm`` (R,) has the latent's gain, ``kv_up`` (R, H·(K + K_v)), with no bias, makes
               each head's key and value, ``out`` is (H·K_v, D);
               ``q`` (D, H·(K + K_r)) makes each head's query, the part for the latents and the part that is
               turned; or instead, compressed on the way, ``q_down`` (D, R_q), ``q_norm`` (R_q,) and ``q_up``
               (R_q, H·(K + K_r))
    heads      H
    rank       R
    head_dim   K, of the part that is not turned
    rope_dim   K_r, of the part that is; 0 where positions come in elsewhere
    value_dim  K_v
    scale      what the products of queries and keys are multiplied by, 1/√(K + K_r) before YaRN
    eps        of the norms
    rope       turns the second part; None for no turning
    key_bias   adds to the scores by the keys' positions; None for nothing
    window     W: a token sees those fewer than W positions away, its own included; None for no limit
    causal     whether a token sees none behind it. If not, a text must come in one call, without a state.
    distance_bias
               adds to the scores by the distances from queries to keys, for layers that are not causal; None
               for nothing
    """

    name = "attention"

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        rank: int,
        head_dim: int,
        rope_dim: int,
        value_dim: int,
        scale: float,
        eps: float = 1e-6,
        rope: Rotary | None = None,
        key_bias: KeyBias | None = None,
        window: int | None = None,
        causal: bool = True,
        distance_bias: DistanceBias | None = None,
    ):
        self.q = Linear(w.q) if "q.weight" in w else None
        if self.q is None:
            self.q_down, self.q_norm, self.q_up = Linear(w.q_down), RMSNorm(w.q_norm, eps=eps), Linear(w.q_up)
        self.kv_down = Linear(w.kv_down)
        self.kv_norm = RMSNorm(w.kv_norm, eps=eps)
        self.kv_up: NDArray | NarrowMatrix = w.kv_up["weight"]
        self.out = Linear(w.out)
        self.heads = heads
        self.rank = rank
        self.head_dim = head_dim
        self.rope_dim = rope_dim
        self.value_dim = value_dim
        self.scale = scale
        self.rope = rope
        self.key_bias = key_bias
        self.window = window
        self.causal = causal
        self.distance_bias = distance_bias

    @cached_property
    def up(self) -> tuple[NDArray, NDArray]:
        """``kv_up`` by heads: W_uk (H, R, K) and W_uv (H, R, K_v).

        A matrix in float32 is only seen in another way. A narrow one is widened, once: absorbing multiplies
        by parts of it and by their transposes, for every token, and it is a small part of the layer.
        """
        weight = self.kv_up
        if not isinstance(weight, np.ndarray):
            weight = weight.product(np.eye(self.rank, dtype=np.float32))
        by_head = weight.reshape(self.rank, self.heads, -1).transpose(1, 0, 2)
        return by_head[..., : self.head_dim], by_head[..., self.head_dim :]

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the latents of ``batch_size`` rows."""
        width = self.rank + self.rope_dim
        if self.window is None:
            return LatentState(batch_size, width, capacity)
        return SlidingLatentState(batch_size, width, self.window, capacity)

    def __call__(
        self, x: NDArray, span: Span, state: KeyValueState | None, last_only: bool = False
    ) -> NDArray:
        """Let each token attend to itself and to what came before; to all, where not causal.

        x          (B, T, D)
        span       the positions that the T tokens take
        state      latents of what came before, extended in place; None where nothing did
        last_only  let only the last token attend; the others give their latents

        Returns (B, T, D), or (B, 1, D) with ``last_only``; a new array.
        """
        asking = span.last if last_only else span
        q = self._queries(x[:, -1:] if last_only else x, asking)
        memory = self._memory(x, span)
        nothing = memory[..., :0]
        if state is None:
            seen = Seen(memory, nothing, np.arange(span.end))
        else:
            seen = state.append(memory, nothing, span)
        mixed = tap("attention.mixed", self._attend(q, seen, asking))  # (B, H, T, K_v)
        mixed = mixed.transpose(0, 2, 1, 3).reshape(len(x), -1, self.heads * self.value_dim)
        return tap("attention.out", self.out(mixed))

    def _queries(self, x: NDArray, span: Span) -> NDArray:
        """Make the queries: (B, T, D) → (B, H, T, K + K_r)."""
        if self.q is not None:
            q = self.q(x)
        else:
            q = self.q_up(tap("attention.q_norm", self.q_norm(tap("attention.q_down", self.q_down(x)))))
        q = q.reshape(*x.shape[:2], self.heads, self.head_dim + self.rope_dim).transpose(0, 2, 1, 3)
        q = tap("attention.q", q)
        if self.rope is None or self.rope_dim == 0:
            return q
        turned = tap("attention.q_turned", self.rope(q[..., self.head_dim :], span))
        return np.concatenate((q[..., : self.head_dim], turned), axis=-1)

    def _memory(self, x: NDArray, span: Span) -> NDArray:
        """Make what is remembered of each token: (B, T, D) → (B, 1, T, R + K_r)."""
        both = tap("attention.kv_down", self.kv_down(x))
        latent = tap("attention.kv_norm", self.kv_norm(both[..., : self.rank]))
        key = both[:, None, :, self.rank :]  # one head
        if self.rope is not None and self.rope_dim:
            key = tap("attention.k_turned", self.rope(key, span))
        return np.concatenate((latent[:, None], key), axis=-1)

    def _attend(self, q: NDArray, seen: Seen, span: Span) -> NDArray:
        """Choose the form: the absorbed one where it is cheaper and nobody looks."""
        memory, _, positions = seen

        def attending(q: NDArray, k: NDArray, v: NDArray) -> NDArray:
            return attend(
                q,
                Seen(k, v, positions),
                span,
                scale=self.scale,
                window=self.window,
                causal=self.causal,
                key_bias=self.key_bias,
                distance_bias=self.distance_bias,
            )

        absorbing = not listening() and absorbing_is_cheaper(q.shape[2], memory.shape[2], *self.up)
        form = latent_attention_absorbed if absorbing else latent_attention_expanded
        return form(q, memory, *self.up, attending)
