"""Gemma (Gemma Team 2024, arXiv:2403.08295): Llama from Google, with wide heads and a large vocabulary.

    x₀ = √D · embedding
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention              | position | norm              | activation    | block      | context |
|------------------------|----------|-------------------|---------------|------------|---------|
| MQA in 2B; MHA in 7B   | RoPE     | RMSNorm, gain 1+w | GeGLU (tanh)  | sequential | 8192    |

New in it: little, and all of it shared by later Gemmas. Heads are 256 wide whatever D is (in 7B the 16 of
them are together wider than the stream), the vocabulary has 256000 tokens, and its table is the output layer
too, so that it is stored once. Rows of a table that gives good logits are short, those of the stream long:
hence √D, as in Vaswani et al. 2017, arXiv:1706.03762. Norms store their gain less 1 (layers/basic.py).

The models were trained with √D rounded to bfloat16, 55.5 instead of 55.4256 for D = 3072. Here the stream is
float32 and so is √D, as in transformers when it computes in float32.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.models.vision_part import with_images
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GemmaConfig(Config):
    """The keys of a Gemma config.json that change the mathematics; defaults as in transformers.

    Files of 2024 may have ``hidden_activation`` beside ``hidden_act``. transformers does not read it any
    more, so it may only repeat what all Gemmas have.
    """

    vocab_size: int = key(256000, letter="V")
    hidden_size: int = key(3072, letter="D")
    intermediate_size: int = key(24576, letter="F")
    num_hidden_layers: int = key(28, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(16, letter="G")
    head_dim: int | None = key(256, letter="K")
    hidden_act: str = activation_key("gelu_pytorch_tanh")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {
        "hidden_activation": (None, "gelu_pytorch_tanh"),
        "use_bidirectional_attention": (None, False),
    }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def activation(self) -> str:
        """The activation's name; the first files say "gelu" for its tanh approximation."""
        return "gelu_pytorch_tanh" if self.hidden_act == "gelu" else self.hidden_act


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
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GemmaConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps, offset=1.0)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.activation])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Gemma(Decoder[GemmaConfig]):
    """Gemma 1 and 1.1 in 2B and 7B, and CodeGemma."""

    Config = GemmaConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: GemmaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps, offset=1.0)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by √D: ids (B, T) → (B, T, D); images are not multiplied."""
        x = self.embedding(ids) * np.sqrt(np.float32(self.config.hidden_size))
        x = tap("embedding.tokens", x)  # transformers' embedding multiplies as well
        return tap("embedding", x if step.images is None else with_images(x, step))


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Heads of 256, GeGLU, gains stored less 1, embeddings times √D",
    why="one table of 256000 tokens is both ends of the model",
    published="7B",
)
