"""TinyStar in torch, to be trained: one class for each part, whose forward pass is its formula.

The parameters have the names and shapes of TinyStar's weights, matrices stored (in, out); what was learned is
saved as it stands. Here is what the seven named configurations need: MHA, GQA, MQA and MLA, windows, rotary
and learned positions, both norms before each layer, both kinds of feed-forward layers. Other choices of
TinyStarConfig are refused.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tinystar_np as ts


class Linear(nn.Module):
    """y = x W + b, W stored (in, out)."""

    def __init__(self, inputs: int, outputs: int, std: float, bias: bool = False):
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)


class Table(nn.Module):
    """A vector for each token, or for each position."""

    def __init__(self, rows: int, width: int, std: float):
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Embedding(nn.Module):
    def __init__(self, c: ts.TinyStarConfig):
        super().__init__()
        self.tokens = Table(c.vocab_size, c.hidden_size, c.init_std)
        learned = c.positions == "learned"
        self.positions = Table(c.max_positions, c.hidden_size, c.init_std) if learned else None

    def forward(self, ids: Tensor) -> Tensor:  # (B, T) → (B, T, D)
        x = self.tokens(ids)
        return x if self.positions is None else x + self.positions.weight[: ids.shape[1]]


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.gain, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.gain, self.eps)


class LayerNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.gain, self.eps = nn.Parameter(torch.ones(width)), eps
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), x.shape[-1:], self.gain, self.bias, self.eps)


def norm_of(c: ts.TinyStarConfig) -> nn.Module:
    return (RMSNorm if c.norm == "rmsnorm" else LayerNorm)(c.hidden_size, c.norm_eps)


class Place(NamedTuple):
    """What all layers are told of a call: rotations by position, and which keys a query attends to.

    cos, sin  (T, J) each; None without rotary positions
    mask      (T, T), 0 and −∞, of a window; None where all earlier keys count
    """

    cos: Tensor | None
    sin: Tensor | None
    mask: Tensor | None

    @classmethod
    def of(cls, c: ts.TinyStarConfig, T: int, device: torch.device) -> Place:
        """Say it for T tokens from the first on."""
        cos = sin = mask = None
        if c.positions == "rope":
            width = c.sizes["J"] if c.attention == "mla" else c.sizes["K"]
            frequencies = c.rope_base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
            angles = torch.arange(T, dtype=torch.float64)[:, None] * frequencies / c.rope_scaling
            cos, sin = angles.cos().float().to(device), angles.sin().float().to(device)
        if c.window is not None and c.window < T:
            visible = torch.ones(T, T, dtype=torch.bool, device=device).tril().triu(1 - c.window)
            mask = torch.zeros(T, T, device=device).masked_fill(~visible, -torch.inf)
        return cls(cos, sin, mask)

    def rotated(self, x: Tensor) -> Tensor:  # (B, H, T, K) → (B, H, T, K)
        """Rotate numbers j and K/2 + j of each head as a pair."""
        if self.cos is None or self.sin is None:
            return x
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat((a * self.cos - b * self.sin, b * self.cos + a * self.sin), dim=-1).to(x.dtype)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """Cut into heads: (B, T, H·K) → (B, H, T, K)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
    """softmax(q kᵀ / √K) v of each head, side by side: (B, H, T, K), (B, G, T, ·) → (B, T, H·K_v).

    Values that are narrower than keys are padded with zeros: torch's fast kernel wants one width.
    """
    width = v.shape[-1]
    queries_per_key = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(queries_per_key, dim=1) for x in (k, v))
    v = F.pad(v, (0, q.shape[-1] - width))
    mask = None if place.mask is None else place.mask.to(q.dtype)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return y[..., :width].transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """MHA, GQA and MQA: H query heads, and G of keys and values."""

    def __init__(self, c: ts.TinyStarConfig, std: float, std_of_outputs: float):
        super().__init__()
        D, self.H, self.G, K = (c.sizes[letter] for letter in "DHGK")
        self.q = Linear(D, self.H * K, std, c.attention_bias)
        self.k = Linear(D, self.G * K, std, c.attention_bias)
        self.v = Linear(D, self.G * K, std, c.attention_bias)
        self.out = Linear(self.H * K, D, std_of_outputs, c.attention_bias)

    def forward(self, x: Tensor, place: Place) -> Tensor:
        q, k, v = heads_of(self.q(x), self.H), heads_of(self.k(x), self.G), heads_of(self.v(x), self.G)
        return self.out(attend(place.rotated(q), place.rotated(k), v, place))


class LatentAttention(nn.Module):
    """MLA: keys and values are made from one latent of R numbers; a key of J numbers carries the position."""

    def __init__(self, c: ts.TinyStarConfig, std: float, std_of_outputs: float):
        super().__init__()
        D, self.H, self.K, self.R, self.J = (c.sizes[letter] for letter in "DHKRJ")
        self.q = Linear(D, self.H * (self.K + self.J), std, c.attention_bias)
        self.kv_down = Linear(D, self.R + self.J, std, c.attention_bias)
        self.kv_norm = RMSNorm(self.R, c.norm_eps)
        self.kv_up = Linear(self.R, self.H * 2 * self.K, std)
        self.out = Linear(self.H * self.K, D, std_of_outputs, c.attention_bias)

    def forward(self, x: Tensor, place: Place) -> Tensor:
        q, q_position = heads_of(self.q(x), self.H).split((self.K, self.J), dim=-1)
        latent, k_position = self.kv_down(x).split((self.R, self.J), dim=-1)
        k, v = heads_of(self.kv_up(self.kv_norm(latent)), self.H).split(self.K, dim=-1)
        k_position = place.rotated(heads_of(k_position, 1)).expand(-1, self.H, -1, -1)  # shared by all heads
        q = torch.cat((q, place.rotated(q_position)), dim=-1)
        return self.out(attend(q, torch.cat((k, k_position.to(k.dtype)), dim=-1), v, place))


ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class FeedForward(nn.Module):
    """down(f(up x)), or with a gate: down(f(gate x) · up x)."""

    def __init__(self, c: ts.TinyStarConfig, std: float, std_of_outputs: float):
        super().__init__()
        D, width = (c.sizes[letter] for letter in "DF")
        self.gate = Linear(D, width, std, c.feed_forward_bias) if c.has_gate else None
        self.up = Linear(D, width, std, c.feed_forward_bias)
        self.down = Linear(width, D, std_of_outputs, c.feed_forward_bias)
        kind = {"swiglu": "silu", "geglu": "gelu"}.get(c.feed_forward, c.activation or "gelu")
        self.activation = ACTIVATIONS[kind]

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, c: ts.TinyStarConfig):
        super().__init__()
        # Matrices that add to the residual stream start smaller, so that it does not grow with depth.
        small = c.init_std / math.sqrt(2 * c.num_layers) if c.residual_scaled_init else c.init_std
        self.attention_norm = norm_of(c)
        self.attention = (LatentAttention if c.has_latents else Attention)(c, c.init_std, small)
        self.feed_forward_norm = norm_of(c)
        self.feed_forward = FeedForward(c, c.init_std, small)

    def forward(self, x: Tensor, place: Place) -> Tensor:  # (B, T, D) → (B, T, D)
        x = x + self.attention(self.attention_norm(x), place)
        return x + self.feed_forward(self.feed_forward_norm(x))


class TorchTinyStar(nn.Module):
    """TinyStar in torch, for training; the names of its parameters are those of TinyStar's weights."""

    def __init__(self, c: ts.TinyStarConfig):
        super().__init__()
        refuse_what_is_not_here(c)
        self.config = c
        self.embedding = Embedding(c)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.num_layers))
        self.final_norm = norm_of(c)
        self.head = None if c.tie_word_embeddings else Linear(c.hidden_size, c.vocab_size, c.init_std)

    def forward(self, ids: Tensor) -> Tensor:  # (B, T) → (B, T, V)
        place = Place.of(self.config, ids.shape[1], ids.device)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, place)
        x = self.final_norm(x)
        return F.linear(x, self.embedding.tokens.weight) if self.head is None else self.head(x)

    def losses(self, rows: Tensor) -> Tensor:  # (B, T + 1) → (B, T)
        """Cross-entropy, in nats, of each token but the first, given those before."""
        logits, targets = self(rows[:, :-1]).float(), rows[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def refuse_what_is_not_here(c: ts.TinyStarConfig) -> None:
    choices = {
        "attention": ("mha", "gqa", "mqa", "mla"),
        "mask": ("causal", "sliding_window"),
        "positions": ("rope", "learned", "none"),
        "norm": ("rmsnorm", "layernorm"),
        "norm_placement": ("pre",),
        "parallel": (False,),
    }
    for key, known in choices.items():
        if (value := getattr(c, key)) not in known:
            raise SystemExit(
                f"{key} = {value!r} is not in this script, which has {', '.join(map(str, known))}."
            )
