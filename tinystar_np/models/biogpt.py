"""BioGPT (Luo et al. 2022, arXiv:2210.10341): GPT-2 medium, trained on PubMed abstracts.

    x = √D · embedding[token] + positions[2 + position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position               | norm      | activation   | block      | context |
|-----------|------------------------|-----------|--------------|------------|---------|
| MHA       | learned, from row 2 on | LayerNorm | GELU (exact) | sequential | 1024    |

New in it: training on the texts of one field from scratch, with a vocabulary learned from them, so that a
medical term is one or two tokens. Embeddings are multiplied by √D before learned positions are added. As in
fairseq, positions are counted from after the padding token's id, so that the first two rows of their table
are never read. ``layer_norm_eps`` in config.json has no effect: every norm has 1e-5.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

EPSILON = 1e-5


@dataclass(frozen=True)
class BioGptConfig(Config):
    """The keys of a BioGPT config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(42384, letter="V")
    hidden_size: int = key(1024, letter="D")
    intermediate_size: int = key(4096, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(16, letter="H")
    hidden_act: str = activation_key("gelu")
    max_position_embeddings: int = key(1024, letter="C", is_trained_length=True)
    scale_embedding: bool = True
    tie_word_embeddings: bool = True

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.max_position_embeddings


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "embedding.positions.weight":          ("embed_positions.weight[2:]", "C+2 D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.self_attn_layer_norm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.self_attn_layer_norm.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "HK"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "HK"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.out_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.final_layer_norm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.final_layer_norm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.fc2.bias", "D"),
    "final_norm.gain":                     ("layer_norm.weight", "D"),
    "final_norm.bias":                     ("layer_norm.bias", "D"),
    "head.weight":                         ("output_projection.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: BioGptConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=EPSILON)
        self.attention = Attention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=EPSILON)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class BioGpt(Decoder[BioGptConfig]):
    """BioGPT, and BioGPT-Large."""

    Config = BioGptConfig
    WEIGHTS = WEIGHTS
    PREFIX = "biogpt."
    OTHER_NAMES: ClassVar = {r"lm_head\.weight": "output_projection.weight"}

    def build(self, w: Weights, c: BioGptConfig) -> None:
        """Build embeddings, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=EPSILON)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens, scale them, and add the vectors of positions: ids (B, T) → (B, T, D)."""
        tokens = self.embedding(ids)
        if self.config.scale_embedding:
            tokens = tokens * np.sqrt(np.float32(self.config.hidden_size))
        tokens = tap("embedding.tokens", tokens)
        positions = tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from="gpt2",
    kind="block",
    changed="Embeddings times √D",
    why="a vocabulary of one field: its terms are one or two tokens",
    published="347M",
)
