"""Command R and R+ (Cohere 2024): attention and feed-forward side by side.

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = l · norm(x) · embeddingᵀ

| attention           | position         | norm                    | activation | block    | context |
|---------------------|------------------|-------------------------|------------|----------|---------|
| MHA in R, GQA in R+ | RoPE, neighbours | LayerNorm, without bias | SwiGLU     | parallel | 131072  |

New in it: PaLM's block (Chowdhery et al. 2022, arXiv:2204.02311) in an open model: one norm feeds both
branches, nothing has a bias, the output layer is tied to the embedding, and l = ``logit_scale`` makes its
logits smaller. R+ norms queries and keys, each head with gains of its own, so that the scores of a large
model stay bounded (Dehghani et al. 2023, arXiv:2302.05442). Names of weights are as in Llama (llama.py).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, LayerNorm, Linear
from tinystar_np.layers.head_norm import LayerNormOfHeads
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class CohereConfig(Config):
    """The keys of a Cohere config.json that change the mathematics; defaults as in transformers."""

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
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    logit_scale: float = 0.0625
    use_qk_norm: bool | None = False
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


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
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_norm.weight", "H K", "use_qk_norm"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_norm.weight", "G K", "use_qk_norm"),
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

    def __init__(self, w: Weights, c: CohereConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_eps)
        norm = partial(LayerNormOfHeads, eps=c.layer_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(interleaved=True),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")) if c.use_qk_norm else None,
        )  # fmt: skip
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = self.attention(normed, step, state) + self.feed_forward(step.wanted(normed))
        return tap("residual", step.wanted(x) + y)


class Cohere(Decoder[CohereConfig]):
    """Command R, Command R+, and Aya 23 and Expanse."""

    Config = CohereConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: CohereConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and scale: (B, T, D) → (B, T, V)."""
        return self.head(x) * np.float32(self.config.logit_scale)


FACTS = Facts(
    grew_from="gptj",
    kind="block",
    changed="Gated feed-forward, no biases, a tied output layer, scaled logits",
    why="PaLM's block in an open model",
    published="Command R",
)
