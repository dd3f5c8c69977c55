"""GPT-2 (Radford, Wu, Child, Luan, Amodei & Sutskever 2019): the decoder that others are measured against.

    x = embedding[token] + positions[position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position             | norm      | activation  | block      | context |
|-----------|----------------------|-----------|-------------|------------|---------|
| MHA       | learned, one per place | LayerNorm | GELU (tanh) | sequential | 1024    |

New in it: the norms stand before attention and feed-forward instead of after the addition, and one more after
the last block; a byte-level vocabulary that can spell any text; no task but the next token.
The output layer is the embedding table once more. Weights are stored (in, out), the other way round than
nearly everywhere since, because the code began in TensorFlow.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import FusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GPT2Config(Config):
    """The keys of a GPT-2 config.json that change the mathematics; defaults as in transformers.

    ``reorder_and_upcast_attn`` asks for scores and softmax in float32 under half-precision training. Here
    they always are float32, so both of its values mean the same.
    """

    vocab_size: int = key(50257, letter="V")
    n_positions: int = key(1024, letter="C", aliases=("max_position_embeddings",))
    n_embd: int = key(768, letter="D", aliases=("hidden_size",))
    n_layer: int = key(12, letter="L", aliases=("num_hidden_layers",))
    n_head: int = key(12, letter="H", aliases=("num_attention_heads",))
    n_inner: int | None = key(None, letter="F")
    activation_function: str = activation_key("gelu_new")
    layer_norm_epsilon: float = key(1e-5, above=0)
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"add_cross_attention": (False,)}

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
    "blocks.{i}.attention.qkv.weight":    ("h.{i}.attn.c_attn.weight", "D 3HK"),
    "blocks.{i}.attention.qkv.bias":      ("h.{i}.attn.c_attn.bias", "3HK"),
    "blocks.{i}.attention.out.weight":    ("h.{i}.attn.c_proj.weight", "HK D"),
    "blocks.{i}.attention.out.bias":      ("h.{i}.attn.c_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("h.{i}.ln_2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("h.{i}.mlp.c_fc.weight", "D F"),
    "blocks.{i}.feed_forward.up.bias":    ("h.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "F D"),
    "blocks.{i}.feed_forward.down.bias":  ("h.{i}.mlp.c_proj.bias", "D"),
    "final_norm.gain":                    ("ln_f.weight", "D"),
    "final_norm.bias":                    ("ln_f.bias", "D"),
    "head.weight":                        ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GPT2Config, i: int):
        head_dim = c.n_embd // c.n_head
        scale = head_dim**-0.5 if c.scale_attn_weights else 1.0
        if c.scale_attn_by_inverse_layer_idx:
            scale /= i + 1
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = FusedAttention(w / "attention", heads=c.n_head, head_dim=head_dim, scale=scale)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class GPT2(Decoder[GPT2Config]):
    """GPT-2 in its four sizes (gpt2, medium, large, xl), DistilGPT-2, and everything built like them."""

    Config = GPT2Config
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.(bias|masked_bias)"  # the causal mask was saved as a buffer by old versions

    def build(self, w: Weights, c: GPT2Config) -> None:
        """Build embeddings, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.n_layer)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens and their positions, and add the vectors: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        positions = tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from="openai-gpt",
    kind="block",
    changed="Norms before attention and feed-forward, and one at the end",
    why="deep stacks train; one task, the next token, serves any text",
    published="124M",
)
