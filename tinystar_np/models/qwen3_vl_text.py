"""Qwen3-VL, text (Qwen Team 2025, arXiv:2511.21631), dense: Qwen3 that reads images at several depths.

    x → norm → attention, q and k normed ──+ x → norm → feed-forward ──+ x      (× L)
    x ← x + the encoder's i-th further vectors, at an image's places, after block i      (i = 1 … M)
    logits = norm(x) · W

| attention | position               | norm                         | activation | block      | context |
|-----------|------------------------|------------------------------|------------|------------|---------|
| GQA       | RoPE by three axes in  | RMSNorm; of each q and k too | SwiGLU     | sequential | 128000  |
|           | turns                  |                              |            |            |         |

New in it: what the encoder knows at lower depths is not lost. It gives vectors after some of its early blocks
too, and the first blocks of the decoder each add one of these to the stream where the image stands
(DeepStack, Meng et al. 2024, arXiv:2406.04334). The pairs of a head go by time, row and column in turns, and
not one section after the other as in Qwen2-VL (qwen2_vl_text.py): every axis has fast pairs and slow ones.
"""

from dataclasses import dataclass

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
from tinystar_np.models.rope_sections import Order, mrope, mrope_sections, sectioned_rotary
from tinystar_np.models.vision_part import plus_deep
from tinystar_np.tap import tap

ORDER: Order = "in turns"
"""How the sections of a head's pairs lie."""


@dataclass(frozen=True)
class Qwen3VLTextConfig(Config):
    """The keys of the text part's config that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(151936, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(22016, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(32, letter="G")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(128000, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return mrope(vars(self), self.sizes["K"], ORDER)

    @property
    def sections(self) -> tuple[int, ...]:
        """How many pairs of a head go by time, row and column."""
        return mrope_sections(vars(self), self.sizes["K"], ORDER, (24, 20, 20))

    def check(self) -> None:
        """Refuse sections that are none."""
        super().check()
        _ = self.sections


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
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_norm.weight", "K"),
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
    """Attention, then feed-forward, then what the encoder adds to the vectors of images at this depth."""

    def __init__(self, w: Weights, c: Qwen3VLTextConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        rope = sectioned_rotary(c.rope, c.sections, ORDER)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=rope, norms=(q_norm, k_norm)
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state
        self.i = i

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", plus_deep(x + self.feed_forward(normed), step, self.i))


class Qwen3VLText(Decoder[Qwen3VLTextConfig]):
    """The text part of Qwen3-VL, 2B to 32B, dense."""

    Config = Qwen3VLTextConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Qwen3VLTextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3",
    kind="position",
    changed="Rotations by time, row and column in turns; images are added in the first blocks too",
    why="every axis has fast and slow pairs, and the encoder's early layers are read too",
    published="8B",
    keys={"num_key_value_heads": 8},
)
