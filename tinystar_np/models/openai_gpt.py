"""GPT (Radford, Narasimhan, Salimans & Sutskever 2018): the Transformer's decoder, alone.

    x = embedding[token] + positions[position]
    x → attention ──+ → norm → feed-forward ──+ → norm      (× L)
    logits = x · embeddingᵀ

| attention | position | norm                      | activation  | block      | context |
|-----------|----------|---------------------------|-------------|------------|---------|
| MHA       | learned  | LayerNorm after each sum  | GELU (tanh) | sequential | 512     |

New in it: pre-training on plain text, books, before training on the few examples of a task; and the decoder
of Vaswani et al. (2017, arXiv:1706.03762) without an encoder. Its norms still stand after the additions, so
that the stream itself is normed in every layer, and there is none at the end. The vocabulary has lower-case
letters only.

transformers has no cache for it, and sets masked scores to −10000: where the other scores are lower still, a
token sees later ones. Here what is masked is never seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import Activation, gelu_tanh, relu, silu
from tinystar_np.layers.attention import FusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear, no_norm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

OWN_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": gelu_tanh,  # OpenAI's code calls the approximation so
    "relu": relu,
    "silu": silu,
    "swish": silu,
}


@dataclass(frozen=True)
class OpenAIGPTConfig(Config):
    """The keys of a GPT config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(40478, letter="V")
    n_positions: int = key(512, letter="C", aliases=("max_position_embeddings",))
    n_embd: int = key(768, letter="D", aliases=("hidden_size",))
    n_layer: int = key(12, letter="L", aliases=("num_hidden_layers",))
    n_head: int = key(12, letter="H", aliases=("num_attention_heads",))
    afn: str = key("gelu", known=OWN_ACTIVATIONS)
    layer_norm_epsilon: float = key(1e-5, above=0)
    tie_word_embeddings: bool = True

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.n_positions


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":            ("tokens_embed.weight", "V D"),
    "embedding.positions.weight":         ("positions_embed.weight", "C D"),
    "blocks.{i}.attention.qkv.weight":    ("h.{i}.attn.c_attn.weight", "D 3HK"),
    "blocks.{i}.attention.qkv.bias":      ("h.{i}.attn.c_attn.bias", "3HK"),
    "blocks.{i}.attention.out.weight":    ("h.{i}.attn.c_proj.weight", "HK D"),
    "blocks.{i}.attention.out.bias":      ("h.{i}.attn.c_proj.bias", "D"),
    "blocks.{i}.attention_post_norm.gain": ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_post_norm.bias": ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("h.{i}.mlp.c_fc.weight", "D F"),
    "blocks.{i}.feed_forward.up.bias":    ("h.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "F D"),
    "blocks.{i}.feed_forward.down.bias":  ("h.{i}.mlp.c_proj.bias", "D"),
    "blocks.{i}.feed_forward_post_norm.gain": ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward_post_norm.bias": ("h.{i}.ln_2.bias", "D"),
    "head.weight":                        ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads the residual stream and adds to it; the sum is normed."""

    def __init__(self, w: Weights, c: OpenAIGPTConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention = FusedAttention(w / "attention", heads=H, head_dim=K)
        self.attention_post_norm = LayerNorm(w / "attention_post_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", OWN_ACTIVATIONS[c.afn])
        self.feed_forward_post_norm = LayerNorm(w / "feed_forward_post_norm", eps=c.layer_norm_epsilon)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        x = step.wanted(x) + self.attention(x, step, state)
        x = tap("residual_middle", tap("attention_post_norm", self.attention_post_norm(x)))
        x = x + self.feed_forward(x)
        return tap("residual", tap("feed_forward_post_norm", self.feed_forward_post_norm(x)))


class OpenAIGPT(Decoder[OpenAIGPTConfig]):
    """GPT, of 2018, with 117M parameters."""

    Config = OpenAIGPTConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.bias|position_ids"  # the mask and a range were saved as buffers by old versions

    def build(self, w: Weights, c: OpenAIGPTConfig) -> None:
        """Build embeddings, blocks and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.n_layer)]
        self.final_norm = no_norm
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens and their positions, and add the vectors: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        positions = tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from=None,
    kind="block",
    changed="The decoder of the Transformer, without an encoder",
    why="plain text teaches what a task needs afterwards",
    published="117M",
)
