"""CTRL (Keskar et al. 2019, arXiv:1909.05858): every text begins with a control code.

    x = √D · embedding[token] + sinusoids(position)
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ + b

| attention | position                        | norm      | activation | block      | context |
|-----------|---------------------------------|-----------|------------|------------|---------|
| MHA       | sines in one half, then cosines | LayerNorm | ReLU       | sequential | 256     |

New in it: control codes. The first token of every text says where it is from, "Wikipedia", "Reviews" or
"Legal", and at generation it chooses the kind of text. The vocabulary has a quarter of a million words and
pieces of words. Positions are the sinusoids of Vaswani et al. (2017, arXiv:1706.03762), with all sines before
all cosines.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import relu
from tinystar_np.kernels.sinusoidal import sinusoidal_positions
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

EPSILON = 1e-6
"""The epsilon of the norms in the blocks; that of the last norm is in config.json."""


@dataclass(frozen=True)
class CTRLConfig(Config):
    """The keys of a CTRL config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(246534, letter="V")
    n_positions: int = key(256, aliases=("max_position_embeddings",), is_trained_length=True)
    n_embd: int = key(1280, letter="D", aliases=("hidden_size",))
    dff: int = key(8192, letter="F")
    n_layer: int = key(48, letter="L", aliases=("num_hidden_layers",))
    n_head: int = key(16, letter="H", aliases=("num_attention_heads",))
    layer_norm_epsilon: float = key(1e-6, above=0)
    tie_word_embeddings: bool = True


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("w.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.layernorm1.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.layernorm1.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.multi_head_attention.Wq.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("h.{i}.multi_head_attention.Wq.bias", "HK"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.multi_head_attention.Wk.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("h.{i}.multi_head_attention.Wk.bias", "HK"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.multi_head_attention.Wv.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("h.{i}.multi_head_attention.Wv.bias", "HK"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.multi_head_attention.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.multi_head_attention.dense.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.layernorm2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.layernorm2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.ffn.0.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.ffn.0.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.ffn.2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.ffn.2.bias", "D"),
    "final_norm.gain":                     ("layernorm.weight", "D"),
    "final_norm.bias":                     ("layernorm.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
    "head.bias":                           ("lm_head.bias", "V"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: CTRLConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=EPSILON)
        self.attention = Attention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=EPSILON)
        self.feed_forward = FeedForward(w / "feed_forward", relu)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class CTRL(Decoder[CTRLConfig]):
    """CTRL, with 1.6 billion parameters."""

    Config = CTRLConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    IGNORED = r"pos_encoding"  # sinusoids, which were saved as a buffer by old versions

    def build(self, w: Weights, c: CTRLConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.n_layer)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens, scale them, and add sinusoids: ids (B, T) → (B, T, D)."""
        D = self.config.n_embd
        tokens = tap("embedding.tokens", self.embedding(ids))
        in_turn = sinusoidal_positions(step.positions, D)  # sine, cosine, sine, …
        halves = np.concatenate([in_turn[..., 0::2], in_turn[..., 1::2]], axis=-1)
        positions = tap("embedding.positions", halves)
        return tap("embedding", tokens * np.sqrt(np.float32(D)) + positions)


FACTS = Facts(
    grew_from="gpt2",
    kind="position",
    changed="Sinusoids instead of learned positions; a control code as the first token",
    why="the kind of text can be chosen",
    published="1.6B",
)
