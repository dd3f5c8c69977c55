"""BLOOM 176B (BigScience 2022, arXiv:2211.05100): ALiBi, and a norm after the embedding.

    x₀ = norm(embedding)
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position | norm      | activation  | block      | context |
|-----------|----------|-----------|-------------|------------|---------|
| MHA       | ALiBi    | LayerNorm | GELU (tanh) | sequential | 2048    |

New in it: 46 languages, by a thousand people in the open. The only positions are ALiBi's slopes (Press, Smith
& Lewis 2022, arXiv:2108.12409), here in full precision and added after the scores are scaled by 1/√K. The
norm after the embedding kept the training stable (Dettmers et al. 2022, arXiv:2110.02861).

Falcon's RW models (falcon.py) are built alike, down to the names and the order of the fused projection, head
by head.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import GroupedFusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap


@dataclass(frozen=True)
class BloomConfig(Config):
    """The keys of a BLOOM config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(250880, letter="V")
    hidden_size: int = key(64, letter="D", aliases=("n_embed",))
    num_hidden_layers: int = key(2, letter="L", aliases=("n_layer",))
    num_attention_heads: int = key(8, letter="H", aliases=("n_head",))
    seq_length: int = key(2048, is_trained_length=True, null_is_silence=True)
    layer_norm_epsilon: float = key(1e-5, above=0)
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {
        "apply_residual_connection_post_layernorm": (False, None),
        "slow_but_exact": (False, None),  # the slow form of transformers, a sum of slices, leaves out biases
    }


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("word_embeddings.weight", "V D"),
    "embedding.norm.gain":                 ("word_embeddings_layernorm.weight", "D"),
    "embedding.norm.bias":                 ("word_embeddings_layernorm.bias", "D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("h.{i}.self_attention.query_key_value.weight", "(H3K D)ᵀ"),
    "blocks.{i}.attention.qkv.bias":       ("h.{i}.self_attention.query_key_value.bias", "H3K"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.self_attention.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.self_attention.dense.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.dense_h_to_4h.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.dense_h_to_4h.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.dense_4h_to_h.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.dense_4h_to_h.bias", "D"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: BloomConfig, alibi: Alibi):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = GroupedFusedAttention(w / "attention", heads=H, head_dim=K, alibi=alibi)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS["gelu_new"])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Bloom(Decoder[BloomConfig]):
    """BLOOM in its sizes from 560M to 176B, and BLOOMZ."""

    Config = BloomConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."

    def build(self, w: Weights, c: BloomConfig) -> None:
        """Build the embedding and its norm, blocks, the last norm and the output layer."""
        alibi = Alibi(partial(alibi_bias, alibi_slopes(c.num_attention_heads)))
        self.embedding = Embedding(w / "embedding.tokens")
        self.embedding_norm = LayerNorm(w / "embedding.norm", eps=c.layer_norm_epsilon)
        self.blocks = [Block(w / f"blocks.{i}", c, alibi) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and norm them: ids (B, T) → (B, T, D)."""
        return tap("embedding", self.embedding_norm(tap("embedding.tokens", self.embedding(ids))))


FACTS = Facts(
    grew_from="gpt2",
    kind="position",
    changed="ALiBi instead of learned positions; a norm after the embedding",
    why="no table of positions limits the length; training stays stable",
    published="176B",
    keys={"hidden_size": 14336, "n_head": 112},
)
