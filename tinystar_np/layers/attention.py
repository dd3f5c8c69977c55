"""Self-attention: projections to queries, keys and values, the cache, the attention kernel, the output."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import Held, KeyValueState, Limits, Step, new_key_value_state
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.paged_attention import Paged
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.basic import Linear, Norm, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import listening, tap


class Attention(Module):
    """Self-attention with H heads of queries and G heads of keys and values.

        q, k, v = heads of x W_q, x W_k, x W_v                 normed, rotated where the model does so
        y       = softmax(scale · q kᵀ + bias, masked) v       each query sees its own and earlier keys
        result  = heads of y side by side, times W_out

    w         linear layers ``q`` (D, H·K), ``k`` and ``v`` (D, G·K), ``out`` (H·K, D); ``sinks`` (H,) in
              models with one more score for every query of a head
    heads     H
    head_dim  K
    kv_heads  G, which divides H: neighbouring queries share a head of keys and values; None for H
    scale     what the products q·k are multiplied by; None for 1/√K
    rope      rotates queries and keys by their positions; None where positions come in elsewhere
    window    W: a token sees the W positions up to its own; None for no limit
    norms     of queries and keys, each head by itself, before they rotate; None for none
    soft_cap  c, below which scaled scores are kept by c · tanh(score / c); None for no cap
    clip      largest absolute value of queries, keys and values; None for any
    alibi     adds to scores by the keys' positions; None for nothing
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        head_dim: int,
        kv_heads: int | None = None,
        scale: float | None = None,
        rope: Rotary | None = None,
        window: int | None = None,
        norms: tuple[Norm, Norm] | None = None,
        soft_cap: float | None = None,
        clip: float | None = None,
        alibi: Alibi | None = None,
    ):
        self.build_projections(w)
        self.build_output(w)
        own = w.heads(heads, heads if kv_heads is None else kv_heads)  # where ranks share the heads, some
        self.heads, self.kv_heads = len(own.heads), len(own.groups)
        self.head_dim = head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.rope, self.window, self.norms, self.soft_cap, self.clip = rope, window, norms, soft_cap, clip
        self.alibi = alibi if alibi is None or w.division is None else alibi.of_heads(own.heads)
        self.sinks: NDArray | None = w.get("sinks")

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, keys and values."""
        self.q, self.k, self.v = Linear(w / "q"), Linear(w / "k"), Linear(w / "v")

    def build_output(self, w: Weights) -> None:
        """Build what makes the result of all heads' means."""
        self.out = Linear(w / "out")

    def limits(self) -> Limits:
        """Say how far a token sees."""
        return Limits(self.window)

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the keys and values of ``batch_size`` rows."""
        G, K = self.kv_heads, self.head_dim
        return new_key_value_state(batch_size, G, K, capacity, self.limits(), self.value_dim())

    def value_dim(self) -> int:
        """Return K_v, the width of a value; it may be another than a key's."""
        return self.v.weight.shape[1] // self.kv_heads

    def multiply_adds(self, keys: int) -> int:
        """Count the multiply-adds of one token with so many keys, and with their values."""
        return self.heads * keys * (self.head_dim + self.value_dim())

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before.

        x      (B, T, D)
        step   where the T tokens stand, and whether only the last one's result is wanted
        state  keys and values of what came before, extended by those of x; None where nothing did

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        q, k, v = self.projected(x, step)  # (B, H, T, K), (B, G, T, K), (B, G, T, K)
        q, k = self.rotated(q, k, step)
        keys, values, positions = step.remember(k, v, state)  # (B, G, S, K), or in pools
        mask = step.mask(positions, self.limits())
        y = tap("attention.mixed", self.attend(q, keys, values, mask, step))  # (B, H, T, K)
        return tap("attention.out", self.out(heads_joined(y)))

    def projected(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray, NDArray]:
        """Make queries (B, H, T, K) of the wanted tokens, keys and values (B, G, T, K) of all."""
        if step.only_last:
            q, (k, v) = self.q(step.wanted(x)), linear_each((self.k, self.v), x)
        else:
            q, k, v = linear_each((self.q, self.k, self.v), x)
        return self.by_heads(q, k, v)

    def by_heads(self, q: NDArray, k: NDArray, v: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Divide vectors (B, T, heads · K) into heads, norm and clip these: (B, heads, T, K)."""
        q = tap("attention.q", heads_apart(q, self.heads))
        k = tap("attention.k", heads_apart(k, self.kv_heads))
        v = tap("attention.v", heads_apart(v, self.kv_heads))
        if self.norms is not None:
            q, k = self.both_normed(q, k, *self.norms)
        if self.clip is not None:
            q, k, v = (np.clip(each, -self.clip, self.clip) for each in (q, k, v))
        return q, k, v

    def both_normed(self, q: NDArray, k: NDArray, q_norm: Norm, k_norm: Norm) -> tuple[NDArray, NDArray]:
        """Norm queries and keys (B, heads, T, K)."""
        q = tap("attention.q_norm", self.normed(q, q_norm))
        return q, tap("attention.k_norm", self.normed(k, k_norm))

    def normed(self, x: NDArray, norm: Norm) -> NDArray:
        """Norm queries or keys (B, heads, T, K), each head by itself."""
        return norm(x)

    def rotated(self, q: NDArray, k: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Rotate queries and keys by their positions."""
        if self.rope is None:
            return q, k
        q = tap("attention.q_rotated", self.rope(q, step.queries))
        return q, tap("attention.k_rotated", self.rope(k, step))

    def attend(self, q: NDArray, k: Held, v: Held, mask: Mask, step: Step) -> NDArray:
        """Apply the kernel: (B, H, T, K), with S keys and values (B, G, S, K) → (B, H, T, K)."""
        bias = None if self.alibi is None else self.alibi(mask, step)
        return attend(q, k, v, mask, scale=self.scale, bias=bias, soft_cap=self.soft_cap, sinks=self.sinks)


class EncoderAttention(Attention):
    """Attention in which each vector sees all the others, as in vision encoders. Nothing is remembered."""

    def limits(self) -> Limits:
        """Say that nothing is hidden."""
        return Limits(causal=False)


class JointNormAttention(Attention):
    """Attention that norms all queries of a token as one vector, and all its keys as another.

    norms  as in ``Attention``, with gains (H·K,) and (G·K,)
    """

    def normed(self, x: NDArray, norm: Norm) -> NDArray:
        """Norm queries or keys (B, heads, T, K), all heads of a token together."""
        return heads_apart(norm(heads_joined(x)), x.shape[1])


class LateNormAttention(Attention):
    """Attention that norms queries and keys after they are rotated.

    A rotation keeps lengths, and so the divisor of an RMS norm; but its gains, one for each number of a head,
    then multiply what the rotation has mixed.
    """

    def both_normed(self, q: NDArray, k: NDArray, q_norm: Norm, k_norm: Norm) -> tuple[NDArray, NDArray]:
        """Leave queries and keys as they are, so far."""
        return q, k

    def rotated(self, q: NDArray, k: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Rotate queries and keys by their positions, and norm them."""
        q, k = super().rotated(q, k, step)
        return (q, k) if self.norms is None else super().both_normed(q, k, *self.norms)


class FusedAttention(Attention):
    """Attention whose queries, keys and values come out of one matrix, side by side.

    w  as in ``Attention``, with ``qkv`` (D, (H + 2G)·K) instead of ``q``, ``k`` and ``v``: all queries, then
       all keys, then all values
    """

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, keys and values."""
        self.qkv = Linear(w / "qkv")

    def value_dim(self) -> int:
        """Return the width of a value, here that of a key."""
        return self.head_dim

    def projected(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray, NDArray]:
        """Make queries (B, H, T, K) of the wanted tokens, keys and values (B, G, T, K) of all."""
        q, k, v = self.apart(tap("attention.qkv", self.qkv(x)))
        return self.by_heads(step.wanted(q), k, v)

    def apart(self, qkv: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Take queries (B, T, H·K), keys and values (B, T, G·K) out of (B, T, (H + 2G)·K)."""
        end_of_q = self.heads * self.head_dim
        end_of_k = end_of_q + self.kv_heads * self.head_dim
        return qkv[..., :end_of_q], qkv[..., end_of_q:end_of_k], qkv[..., end_of_k:]


class GroupedFusedAttention(FusedAttention):
    """Attention whose queries, keys and values come out of one matrix, group by group.

    For each of the G groups stand its H/G queries, its key and its value. A processor takes the part of a
    group, and needs no other's.
    """

    def apart(self, qkv: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Take queries (B, T, H·K), keys and values (B, T, G·K) out of (B, T, G·(H/G + 2)·K)."""
        B, T, _ = qkv.shape
        by_group = qkv.reshape(B, T, self.kv_heads, -1, self.head_dim)
        q, k, v = by_group[..., :-2, :], by_group[..., -2, :], by_group[..., -1, :]
        return q.reshape(B, T, -1), k.reshape(B, T, -1), v.reshape(B, T, -1)


def attend(
    q: NDArray,
    k: Held,
    v: Held,
    mask: Mask,
    *,
    scale: float,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Apply the attention kernel, one step at a time where somebody listens to the steps.

    Arguments as of the kernel; keys and values may be in pools. Taps ``attention.scores`` and
    ``attention.probabilities``.
    """
    steps_are_read = listening("attention.scores", "attention.probabilities")
    if isinstance(k, Paged) and isinstance(v, Paged) and not steps_are_read:
        return fast.paged_attention(
            q, k, v, scale=scale, window=mask.window, chunk=mask.chunk, bias=bias, soft_cap=soft_cap,
            sinks=sinks,
        )  # fmt: skip
    k, v = as_array(k), as_array(v)
    if not steps_are_read:
        return fast.attention(q, k, v, mask, scale=scale, bias=bias, soft_cap=soft_cap, sinks=sinks)
    scores = fast.attention_scores(q, k, scale=scale, bias=bias, soft_cap=soft_cap)
    scores = tap("attention.scores", scores)
    probabilities = tap("attention.probabilities", fast.attention_probabilities(scores, mask, sinks))
    return fast.attention_mean(probabilities, v)


def as_array(held: Held) -> NDArray:
    """Return keys or values as (B, G, S, K), wherever they are held."""
    return fast.gathered(held) if isinstance(held, Paged) else held


def heads_apart(x: NDArray, heads: int) -> NDArray:
    """Divide vectors into heads: (B, T, heads · K) → (B, heads, T, K), a view."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def heads_joined(x: NDArray) -> NDArray:
    """Put the vectors of all heads side by side: (B, heads, T, K) → (B, T, heads · K)."""
    return x.transpose(0, 2, 1, 3).reshape(len(x), x.shape[2], -1)
