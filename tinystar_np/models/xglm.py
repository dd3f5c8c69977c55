"""XGLM (Lin et al. 2021, arXiv:2112.10668): thirty languages in one decoder.

    x = √D · embedding[token] + sinusoids(2 + position)
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position   | norm      | activation   | block      | context |
|-----------|------------|-----------|--------------|------------|---------|
| MHA       | sinusoidal | LayerNorm | GELU (exact) | sequential | 2048    |

New in it: languages with few texts are sampled more often than their share, so that thirty are learned
together, with one vocabulary of 256 000 tokens; its embedding is nearly half of the smallest model. Positions
are sines and cosines (kernels/sinusoidal.py), none of them learned, and count from 2 on, as in fairseq.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.sinusoidal import sinusoidal_halves
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

EPSILON = 1e-5
"""What is added to a variance; no key says it."""
FIRST = 2
"""The number of the first position."""


@dataclass(frozen=True)
class XGLMConfig(Config):
    """The keys of an XGLM config.json that change the mathematics; defaults as in transformers.

    The position with the number ``pad_token_id`` has the vector 0. It is 1 in published files: no token's.
    """

    vocab_size: int = key(256008, letter="V")
    d_model: int = key(1024, letter="D", aliases=("hidden_size",), least=4)
    ffn_dim: int = key(4096, letter="F")
    num_layers: int = key(24, letter="L", aliases=("num_hidden_layers",))
    attention_heads: int = key(16, letter="H", aliases=("num_attention_heads",))
    activation_function: str = activation_key("gelu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    scale_embedding: bool = True
    pad_token_id: int | None = 1
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"add_cross_attention": (False,)}

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        C, pad = FIRST + self.max_position_embeddings, self.pad_token_id
        require(pad is None or -C <= pad < C, f"pad_token_id = {pad}, but there are {C} positions.")


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
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
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: XGLMConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=EPSILON)
        self.attention = Attention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=EPSILON)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class XGLM(Decoder[XGLMConfig]):
    """XGLM in its sizes from 564M to 7.5B."""

    Config = XGLMConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."
    IGNORED = r"embed_positions\.weights"  # sinusoids, which were saved as a buffer by old versions

    def build(self, w: Weights, c: XGLMConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=EPSILON)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens, scale them, and add sinusoids: ids (B, T) → (B, T, D)."""
        c, numbers = self.config, FIRST + step.positions
        tokens = self.embedding(ids)
        if c.scale_embedding:
            tokens = tokens * np.sqrt(np.float32(c.d_model))
        positions = sinusoidal_halves(numbers, c.d_model)
        positions[numbers == c.pad_token_id] = 0
        tokens, positions = tap("embedding.tokens", tokens), tap("embedding.positions", positions)
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from="gpt2",
    kind="position",
    changed="Sinusoids instead of learned positions; embeddings times √D",
    why="any position has a vector; prompts may be in any of thirty languages",
    published="7.5B",
    keys={"d_model": 4096, "ffn_dim": 16384, "num_layers": 1},
)
