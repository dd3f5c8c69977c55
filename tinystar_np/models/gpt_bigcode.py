"""GPT-BigCode (BigCode 2023, arXiv:2301.03988, 2305.06161): GPT-2 with multi-query attention, for programs.

    x = embedding[token] + positions[position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position               | norm      | activation  | block      | context |
|-----------|------------------------|-----------|-------------|------------|---------|
| MQA       | learned                | LayerNorm | GELU (tanh) | sequential | 8192    |

New in it, beside GPT-2 (gpt2.py): one key/value head for all query heads (Shazeer 2019, arXiv:1911.02150),
which divides the cache by H. SantaCoder and StarCoder (Li et al. 2023) were trained on programs, some of them
rearranged so that the model learns to fill in the middle as well as to continue. Weights are stored (out,
in).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import GroupedFusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GPTBigCodeConfig(Config):
    """The keys of a GPT-BigCode config.json that change the mathematics; defaults as in transformers.

    Two further keys say in which type scores are computed; here it is always float32.
    """

    vocab_size: int = key(50257, letter="V")
    n_positions: int = key(1024, letter="C", aliases=("max_position_embeddings",))
    n_embd: int = key(768, letter="D", aliases=("hidden_size",))
    n_layer: int = key(12, letter="L", aliases=("num_hidden_layers",))
    n_head: int = key(12, letter="H", aliases=("num_attention_heads",))
    n_inner: int | None = key(None, letter="F")
    activation_function: str = activation_key("gelu_pytorch_tanh")
    layer_norm_epsilon: float = key(1e-5, above=0)
    scale_attn_weights: bool = True
    multi_query: bool = True
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"add_cross_attention": (False,)}

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; G is 1 or H, and Q are the heads of a group."""
        found = super().sizes | ({"G": 1} if self.multi_query else {})
        return found | {"Q": found["H"] // max(found["G"], 1)}

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.n_positions


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":            ("wte.weight", "V D"),
    "embedding.positions.weight":         ("wpe.weight", "C D"),
    "blocks.{i}.attention_norm.gain":     ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":     ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.qkv.weight":    ("h.{i}.attn.c_attn.weight", "(G[QK+2K] D)ᵀ"),
    "blocks.{i}.attention.qkv.bias":      ("h.{i}.attn.c_attn.bias", "G[QK+2K]"),
    "blocks.{i}.attention.out.weight":    ("h.{i}.attn.c_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":      ("h.{i}.attn.c_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("h.{i}.ln_2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("h.{i}.mlp.c_fc.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":    ("h.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("h.{i}.mlp.c_proj.bias", "D"),
    "final_norm.gain":                    ("ln_f.weight", "D"),
    "final_norm.bias":                    ("ln_f.bias", "D"),
    "head.weight":                        ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GPTBigCodeConfig):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        # Rows: with G = H, each query followed by its key and value; with G = 1, all queries, then both.
        self.attention = GroupedFusedAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=None if c.scale_attn_weights else 1.0
        )
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class GPTBigCode(Decoder[GPTBigCodeConfig]):
    """SantaCoder, StarCoder, StarCoderBase in four sizes, and StarChat."""

    Config = GPTBigCodeConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HGQ",))
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.(bias|masked_bias)"  # the causal mask was saved as a buffer by old versions

    def build(self, w: Weights, c: GPTBigCodeConfig) -> None:
        """Build embeddings, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.n_layer)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens and their positions, and add the vectors: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        positions = tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from="gpt2",
    kind="attention",
    changed="One key/value head for all query heads",
    why="many requests at once: a 48th of the cache",
    published="StarCoder",
    keys={"n_embd": 6144, "n_head": 48, "n_inner": 24576, "n_positions": 8192},
)
