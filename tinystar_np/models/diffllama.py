"""DiffLlama (Matsumoto 2024; Ye et al. 2024, arXiv:2410.05258): Llama with differential attention.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention                            | position | norm    | activation | block      | context |
|--------------------------------------|----------|---------|------------|------------|---------|
| differential: one map minus another; | RoPE     | RMSNorm | SwiGLU     | sequential | 2048    |
| GQA; a norm of each head's output    |          |         |            |            |         |

New in it: a head computes two attention maps and subtracts the second, times a learned λ, from the first
(kernels/differential_attention.py), so that the weight which both give to irrelevant tokens cancels. There
are half as many heads, twice as wide. The output of each head is normed on its own, without gains, since
heads differ in how much the subtraction leaves, and multiplied by 1 − λ_init, which keeps gradients close to
those of plain attention.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.differential_attention import difference, padded_queries, paired
from tinystar_np.layers.attention import Attention, attend, heads_apart, heads_joined
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class DiffLlamaConfig(Config):
    """The keys of a DiffLlama config.json that change the mathematics; defaults as in transformers.

    ``num_attention_heads`` counts maps, ``num_key_value_heads`` keys: a pair of either is a head.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(8192, letter="F")
    num_hidden_layers: int = key(16, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with P heads of two maps, and Q pairs of keys; those of a pair are Q keys apart."""
        found = super().sizes
        return found | {"P": max(found["H"] // 2, 1), "Q": max(found["G"] // 2, 1)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        G = self.sizes["G"]
        require(G % 2 == 0, f"num_key_value_heads = {G}, but keys of two maps are a pair: it must be even.")


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(2PK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "2PK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(2QK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "2QK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(2QK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "2QK", "attention_bias"),
    "blocks.{i}.attention.lambda_q1":      ("layers.{i}.self_attn.lambda_q1", "K"),
    "blocks.{i}.attention.lambda_k1":      ("layers.{i}.self_attn.lambda_k1", "K"),
    "blocks.{i}.attention.lambda_q2":      ("layers.{i}.self_attn.lambda_q2", "K"),
    "blocks.{i}.attention.lambda_k2":      ("layers.{i}.self_attn.lambda_k2", "K"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D P2K)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class DifferentialAttention(Attention):
    """Self-attention with H/2 heads of two maps each, and G/2 pairs of keys and values.

        q, k, v = heads of x W_q, x W_k, x W_v                     H, G, G of width K; q and k rotated
        y       = (map of q₁, k₁ − λ · map of q₂, k₂) (v₁, v₂)     H/2 of width 2K
        result  = heads of (1 − λ_init) · norm(y) side by side, times W_out

    The two keys of a pair are cached side by side, and so are its values: the cache is as large as that of
    plain attention.

    w     as of ``Attention``, and ``lambda_q1``, ``lambda_k1``, ``lambda_q2``, ``lambda_k2`` (K,)
    maps  H
    keys  G
    eps   of the norm of each head
    i     the layer's number, on which λ_init depends
    """

    remark = "each the difference of two maps"

    def __init__(self, w: Weights, *, maps: int, keys: int, head_dim: int, eps: float, rope: Rotary, i: int):
        super().__init__(
            w, heads=maps // 2, kv_heads=keys // 2, head_dim=2 * head_dim, scale=head_dim**-0.5, rope=rope
        )
        self.first_share = 0.8 - 0.6 * math.exp(-0.3 * i)  # λ_init
        plus, minus = (float(np.exp(w[f"lambda_q{n}"] @ w[f"lambda_k{n}"])) for n in (1, 2))
        self.share = plus - minus + self.first_share
        self.gain = np.full(2 * head_dim, 1 - self.first_share, dtype=np.float32)
        self.eps = eps

    def multiply_adds(self, keys: int) -> int:
        """Count the multiply-adds of one token with so many keys, and with their values: of two maps."""
        return 2 * super().multiply_adds(keys)

    def by_heads(self, q: NDArray, k: NDArray, v: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Divide vectors into heads of width K: (B, H, T, K), (B, G, T, K), (B, G, T, K)."""
        q = tap("attention.q", heads_apart(q, 2 * self.heads))
        k = tap("attention.k", heads_apart(k, 2 * self.kv_heads))
        return q, k, tap("attention.v", heads_apart(v, 2 * self.kv_heads))

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before; arguments as of ``Attention``."""
        q, k, v = self.projected(x, step)
        q, k = self.rotated(q, k, step)
        keys, values, positions = step.remember(paired(k), paired(v), state)  # (B, G/2, S, 2K)
        mask = step.mask(positions, self.limits())
        y = attend(padded_queries(q, self.kv_heads), keys, values, mask, scale=self.scale)  # (B, H, T, 2K)
        y = tap("attention.before_norm", difference(y, self.kv_heads, self.share))  # (B, H/2, T, 2K)
        y = tap("attention.mixed", fast.rms_norm(y, self.gain, self.eps))
        return tap("attention.out", self.out(heads_joined(y)))


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: DiffLlamaConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = DifferentialAttention(
            w / "attention", maps=H, keys=G, head_dim=K, eps=c.rms_norm_eps, rope=c.rope.rotary(), i=i
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class DiffLlama(Decoder[DiffLlamaConfig]):
    """DiffLlama 0.3B."""

    Config = DiffLlamaConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("PQ",))
    PREFIX = "model."

    def build(self, w: Weights, c: DiffLlamaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="attention",
    changed="A head is the difference of two attention maps",
    why="attention to irrelevant tokens cancels",
    published="0.3B",
)
