"""Llama (Touvron et al. 2023, arXiv:2302.13971, 2307.09288; Meta 2024, arXiv:2407.21783), 1 to 3.2.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention              | position | norm    | activation | block      | context                |
|------------------------|----------|---------|------------|------------|------------------------|
| MHA; GQA from 2-70B on | RoPE     | RMSNorm | SwiGLU     | sequential | 2048 in 1, 131072 in 3.1 |

New in it: nothing but the choice. RMS norm instead of layer norm, rotary positions instead of learned ones,
a gated feed-forward layer and no biases were each known; together, trained on far more text than was thought
useful for the size, they became what most decoders since are made of. Llama 3 took a vocabulary of 128256
and a RoPE base of 500000; 3.1 slows the slow rotations by 8 to read sixteen times as far; in 3.2's small
models the output layer is the embedding table.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import DecoderConfig
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import GatedFeedForward, RMSNorm, Weights
from tinystar_np.layers.blocks import FeedForwardLayer, Norm
from tinystar_np.models.attention_decoder import AttentionDecoder
from tinystar_np.models.facts import Facts
from tinystar_np.weights.weight_table import WeightTable, with_switches, without


@dataclass(frozen=True)
class LlamaConfig(DecoderConfig):
    """The keys of a Llama config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations; of a part of each head, in relatives that have a key for it."""
        partial = hasattr(self, "partial_rotary_factor")
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=partial)


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "HK D -> D HK"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "GK D -> D GK"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "GK D -> D GK"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "D HK -> HK D"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "D F -> F D"),
    "final_norm.gain":                     ("norm.weight", "D"),
}  # fmt: skip
ATTENTION_BIASES: WeightTable = {
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D"),
}  # fmt: skip
QKV_BIASES: WeightTable = without(ATTENTION_BIASES, ".out.")
FEED_FORWARD_BIASES: WeightTable = {
    "blocks.{i}.feed_forward.gate.bias":   ("layers.{i}.mlp.gate_proj.bias", "F"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.up_proj.bias", "F"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.down_proj.bias", "D"),
}  # fmt: skip
# Norms of queries and keys, which some relatives have: of each head, or of all heads of a token together.
HEAD_NORMS: WeightTable = {
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_norm.weight", "K"),
}  # fmt: skip
JOINT_NORMS: WeightTable = {
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_norm.weight", "HK"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_norm.weight", "GK"),
}  # fmt: skip


class Llama(AttentionDecoder):
    """Llama 1, 2, 3, 3.1 and 3.2 (text), and the many models that are built like them."""

    Config: ClassVar[type[DecoderConfig]] = LlamaConfig
    PREFIX = "model."

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Add what the config switches on."""
        return with_switches(WEIGHTS, config, attention_bias=ATTENTION_BIASES, mlp_bias=FEED_FORWARD_BIASES)

    def norm(self, w: Weights) -> Norm:
        """Build a norm."""
        return RMSNorm(w, eps=self.config.rms_norm_eps)

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Build layer i's feed-forward layer."""
        return GatedFeedForward(w, activation=ACTIVATIONS[self.config.hidden_act])


FACTS = Facts(
    grew_from="gpt2",
    kind="block",
    changed="RMSNorm, rotary positions, gated feed-forward, no biases; later shared keys",
    why="each was known to help; together they became the standard",
    published="3.1 8B",
    keys={"num_key_value_heads": 8},
)
