"""HyperCLOVA X SEED Think (NAVER 2025, arXiv:2506.22403), 14B: Granite with norms on both sides.

    x₀ = e · embedding
    x → norm → attention → norm → · r ──+ x → norm → feed-forward → norm → · r ──+ x      (× L)
    logits = l · norm(x) · W

| attention | position | norm                          | activation | block      | context |
|-----------|----------|-------------------------------|------------|------------|---------|
| GQA       | RoPE     | RMSNorm before and after both | SwiGLU     | sequential | 131072  |

New in it, beside Granite (granite.py): what a branch gives is normed, too, before it is added, as in Gemma 2
(gemma2.py). Between both norms nothing can grow without limit, and the stream still passes from the
first layer to the last untouched. The makers call it Peri-LN (Kim et al. 2025, arXiv:2502.02732). Logits are
multiplied by l, which Granite divides by.
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
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class HyperClovaXConfig(Config):
    """The keys of a HyperCLOVA X config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_multiplier: float = key(1.0, null_is_silence=True)
    attention_multiplier: float | None = None
    residual_multiplier: float = key(1.0, null_is_silence=True)
    logits_scaling: float = key(1.0, null_is_silence=True)
    use_post_norm: bool = True
    tie_word_embeddings: bool = False

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
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain": ("layers.{i}.post_norm1.weight", "D", "use_post_norm"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":   ("layers.{i}.mlp.gate_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.down_proj.bias", "D", "mlp_bias"),
    "blocks.{i}.feed_forward_post_norm.gain":
        ("layers.{i}.post_norm2.weight", "D", "use_post_norm"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Each branch reads a normed copy of the residual stream, norms its result, and adds r times it."""

    def __init__(self, w: Weights, c: HyperClovaXConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=c.attention_multiplier,
            rope=c.rope.rotary(),
        )  # fmt: skip
        self.attention_post_norm = norm(w / "attention_post_norm") if c.use_post_norm else None
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm") if c.use_post_norm else None
        self.residual_multiplier = np.float32(c.residual_multiplier)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        y = self.attention(tap("attention_norm", self.attention_norm(x)), step, state)
        if self.attention_post_norm is not None:
            y = tap("attention_post_norm", self.attention_post_norm(y))
        y = tap("attention_scaled", y * self.residual_multiplier)
        x = tap("residual_middle", step.wanted(x) + y)
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        if self.feed_forward_post_norm is not None:
            y = tap("feed_forward_post_norm", self.feed_forward_post_norm(y))
        return tap("residual", x + tap("feed_forward_scaled", y * self.residual_multiplier))


class HyperClovaX(Decoder[HyperClovaXConfig]):
    """HyperCLOVA X SEED Think 14B."""

    Config = HyperClovaXConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: HyperClovaXConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply: ids (B, T) → (B, T, D)."""
        x = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", x * np.float32(self.config.embedding_multiplier))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and multiply: (B, T, D) → (B, T, V)."""
        return self.head(x) * np.float32(self.config.logits_scaling)


FACTS = Facts(
    grew_from="granite",
    kind="block",
    changed="Norms after attention and feed-forward, before r",
    why="what a layer adds to the stream stays of one size in a long training",
    published="SEED Think 14B",
    keys={"num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128},
)
