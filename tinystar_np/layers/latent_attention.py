"""Latent attention: keys and values of all heads are made from one short vector per token, then cached."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import Held, KeyValueState, Limits, Step, new_key_value_state
from tinystar_np.kernels.activations import sigmoid
from tinystar_np.kernels.latent_attention import expanded
from tinystar_np.kernels.linear import Matrix, unpacked
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.paged_attention import Paged
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import as_array, attend, heads_apart, heads_joined
from tinystar_np.layers.basic import Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import listening, tap


class LatentAttention(Module):
    """Self-attention whose keys and values are made from one latent per token (kernels/latent_attention.py).

    w          linear layers: ``kv_down`` (D, R + K_r) makes the latent and the key that is rotated,
               ``kv_norm`` (R,) has the latent's gain, ``kv_up`` (R, H·(K + K_v)), with no bias, makes each
               head's key and value, ``out`` is (H·K_v, D); ``q`` (D, H·(K + K_r)) makes each head's query,
               the part for the latents and the part that is rotated; ``gate`` (D, H), in models that have
               one, makes the number whose sigmoid each head's result is multiplied by
    heads      H
    rank       R
    head_dim   K, of the part that is not rotated
    rope_dim   K_r, of the part that is; 0 where positions come in elsewhere
    value_dim  K_v
    scale      what the products of queries and keys are multiplied by, 1/√(K + K_r) before YaRN
    eps        of the norms
    rope       rotates the second part; None for no rotation
    window     W: a token sees the W positions up to its own; None for no limit
    alibi      adds to scores by the keys' positions; None for nothing

    Where ranks share the heads (ranks/), each has its heads' part of what makes queries (``q_up``, of what is
    compressed), of ``kv_up`` and of ``out``. What makes latents is whole on all of them, and so is the cache:
    a latent belongs to no head. Each rank computes and remembers all of it, R + K_r numbers a token.
    """

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
        window: int | None = None,
        alibi: Alibi | None = None,
    ):
        self.build_queries(w, eps)
        self.kv_down = Linear(w / "kv_down")
        self.kv_norm = RMSNorm(w / "kv_norm", eps=eps)
        self.kv_up: Matrix = w["kv_up.weight"]
        self.out = Linear(w / "out")
        self.gate = None if w.get("gate.weight") is None else Linear(w / "gate")
        own = w.heads(heads, heads).heads  # where ranks share the heads, some
        self.heads, self.rank, self.head_dim = len(own), rank, head_dim
        self.rope_dim, self.value_dim = rope_dim, value_dim
        self.scale, self.rope, self.window = scale, rope, window
        self.alibi = alibi if alibi is None or w.division is None else alibi.of_heads(own)

    def build_queries(self, w: Weights, eps: float) -> None:
        """Build what makes queries."""
        self.q = Linear(w / "q")

    def queries(self, x: NDArray) -> NDArray:
        """Make queries: (B, T, D) → (B, T, H·(K + K_r))."""
        return self.q(x)

    @cached_property
    def up(self) -> tuple[NDArray, NDArray]:
        """``kv_up`` by heads: W_uk (H, R, K) and W_uv (H, R, K_v).

        A matrix in float32 is only seen in another way. A packed one is unpacked, once: absorbing multiplies
        by parts of it and by their transposes, for every token, and it is a small part of the layer.
        """
        by_head = unpacked(self.kv_up).reshape(self.rank, self.heads, -1).transpose(1, 0, 2)
        return by_head[..., : self.head_dim], by_head[..., self.head_dim :]

    def limits(self) -> Limits:
        """Say how far a token sees."""
        return Limits(self.window)

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the latents of ``batch_size`` rows: one head of keys R + K_r wide, and no values."""
        width = self.rank + self.rope_dim
        return new_key_value_state(batch_size, 1, width, capacity, self.limits(), value_dim=0)

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before.

        x      (B, T, D)
        step   where the T tokens stand, and which of them somebody wants the result of
        state  latents of what came before, extended by those of x; None where nothing did

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        q = self.rotated_queries(step.wanted(x), step.queries)  # (B, H, T, K + K_r)
        new = self.latents(x, step)  # (B, 1, T, R + K_r)
        latents, _, positions = step.remember(new, new[..., :0], state)  # (B, 1, S, R + K_r), or in a pool
        y = tap("attention.mixed", self.attend(q, latents, step.mask(positions, self.limits()), step))
        if self.gate is None:
            return tap("attention.out", self.out(heads_joined(y)))
        gate = tap("attention.gate", self.gate(step.wanted(x))[..., None])  # (B, T, H, 1)
        y = tap("attention.gated", y.transpose(0, 2, 1, 3) * sigmoid(gate))  # (B, T, H, K_v)
        return tap("attention.out", self.out(y.reshape(*y.shape[:2], -1)))

    def attend(self, q: NDArray, latents: Held, mask: Mask, step: Step) -> NDArray:
        """Apply the kernel: (B, H, T, K + K_r), with S latents (B, 1, S, R + K_r) → (B, H, T, K_v)."""
        bias = None if self.alibi is None else self.alibi(mask, step)
        steps_are_read = listening("attention.scores", "attention.probabilities")
        if isinstance(latents, Paged) and not steps_are_read:
            return fast.paged_latent_attention(
                q, latents, *self.up, scale=self.scale, window=mask.window, chunk=mask.chunk, bias=bias
            )
        latents = as_array(latents)
        if not steps_are_read:
            return fast.latent_attention(q, latents, *self.up, mask, scale=self.scale, bias=bias)
        return attend(q, *expanded(latents, *self.up), mask, scale=self.scale, bias=bias)

    def rotated_queries(self, x: NDArray, step: Step) -> NDArray:
        """Make queries, their second part rotated: (B, T, D) → (B, H, T, K + K_r)."""
        return self.rotated(self.queries(x), step)

    def rotated(self, queries: NDArray, step: Step) -> NDArray:
        """Divide (B, T, H·(K + K_r)) into heads, and rotate their second part: (B, H, T, K + K_r)."""
        q = tap("attention.q", heads_apart(queries, self.heads))
        if self.rope is None or self.rope_dim == 0:
            return q
        rotated = tap("attention.q_rotated", self.rope(q[..., self.head_dim :], step))
        return np.concatenate((q[..., : self.head_dim], rotated), axis=-1)

    def latents(self, x: NDArray, step: Step) -> NDArray:
        """Make what is remembered of each token: (B, T, D) → (B, 1, T, R + K_r)."""
        both = tap("attention.kv_down", self.kv_down(x))
        latent = tap("attention.kv_norm", self.kv_norm(both[..., : self.rank]))
        key = both[:, None, :, self.rank :]  # one head
        if self.rope is not None and self.rope_dim:
            key = tap("attention.k_rotated", self.rope(key, step))
        return np.concatenate((latent[:, None], key), axis=-1)


class LatentQueryAttention(LatentAttention):
    """Latent attention whose queries are compressed on the way as well, which saves weights.

    w  as in ``LatentAttention``, with ``q_down`` (D, R_q), ``q_norm`` (R_q,) and ``q_up`` (R_q, H·(K + K_r))
       instead of ``q``
    """

    def build_queries(self, w: Weights, eps: float) -> None:
        """Build what makes queries."""
        self.q_down, self.q_up = Linear(w / "q_down"), Linear(w / "q_up")
        self.q_norm = RMSNorm(w / "q_norm", eps=eps)

    def queries(self, x: NDArray) -> NDArray:
        """Make queries: (B, T, D) → (B, T, H·(K + K_r))."""
        return self.q_up(self.compressed(x))

    def compressed(self, x: NDArray) -> NDArray:
        """Make what queries are made of: (B, T, D) → (B, T, R_q)."""
        return tap("attention.q_norm", self.q_norm(tap("attention.q_down", self.q_down(x))))
