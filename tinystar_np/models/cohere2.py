"""Command R7B and Command A (Cohere 2024–25, arXiv:2504.00698): RoPE only in layers with a window.

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = l · norm(x) · embeddingᵀ

| attention             | position               | norm               | activation | block    | context |
|-----------------------|------------------------|--------------------|------------|----------|---------|
| GQA, window in 3 of 4 | RoPE, neighbour pairs; | LayerNorm, no bias | SwiGLU     | parallel | 262144  |
|                       | none in every fourth   |                    |            |          |         |

New in it, beside Command R (cohere.py): three layers of four see the last 4096 tokens, and rotate queries and
keys. The fourth sees the whole text and has no positions at all: it finds tokens by content, however far
away, and never meets a distance longer than those in training (Yang et al. 2025, arXiv:2501.18795; Kazemnejad
et al. 2023, arXiv:2305.19466). It learns of the order of tokens from the layers below.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Cohere2Config(Config):
    """The keys of a Cohere 2 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(256000, letter="V")
    hidden_size: int = key(8192, letter="D")
    intermediate_size: int = key(22528, letter="F")
    num_hidden_layers: int = key(40, letter="L")
    num_attention_heads: int = key(64, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    logit_scale: float = 0.0625
    sliding_window: int | None = 4096
    sliding_window_pattern: int = 4
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every n-th has none, where the file does not name them."""
        named = self.layer_types is not None
        n = 1 if named else at_least_1("sliding_window_pattern", self.sliding_window_pattern)
        usual = [SLIDING if (i + 1) % n else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention and feed-forward side by side: both read the same normed copy of the stream and add to it."""

    def __init__(self, w: Weights, c: Cohere2Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_eps)
        window = c.windows[i]
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=window,
            rope=None if window is None else c.rope.rotary(interleaved=True),
        )  # fmt: skip
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = self.attention(normed, step, state) + self.feed_forward(step.wanted(normed))
        return tap("residual", step.wanted(x) + y)


class Cohere2(Decoder[Cohere2Config]):
    """Command R7B, Command A, and Tiny Aya."""

    Config = Cohere2Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Cohere2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and scale: (B, T, D) → (B, T, V)."""
        return self.head(x) * np.float32(self.config.logit_scale)


FACTS = Facts(
    grew_from="cohere",
    kind="position",
    changed="RoPE in layers with a window; every fourth sees all and has no positions",
    why="a quarter of the cache, and no distances longer than in training",
    published="Command A",
    keys={"num_hidden_layers": 4, "hidden_size": 12288, "num_attention_heads": 96}
    | {"num_key_value_heads": 8},
)
