"""Youtu-LLM 2B (Tencent 2025, arXiv:2512.24618): latent attention in a small dense model.

    x → norm → latent attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention       | position          | norm    | activation | block      | context |
|-----------------|-------------------|---------|------------|------------|---------|
| latent, R = 512 | RoPE on 64 of 192 | RMSNorm | SwiGLU     | sequential | 131072  |

New in it: DeepSeek-V3's block (deepseek_v3.py) without its experts. The small cache that was made for serving
a model of 671B lets a small one read long texts: a token takes 576 numbers a layer, little more than two
key/value heads would, while each of the sixteen heads has keys and values of its own. transformers, as it
loads a file, sets the row of the padding token to 0, in the output layer too where that is the same table;
here the file's row counts.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.latent_attention import LatentAttention, LatentQueryAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class YoutuConfig(Config):
    """The keys of a Youtu config.json that change the mathematics; defaults as in transformers.

    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups. ``head_dim``,
    which transformers may write, is the width of the part of a head that is rotated.
    """

    vocab_size: int = key(128256, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(6144, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = 16
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int | None = key(1536, letter="Q")
    head_dim: int | None = None
    qk_nope_head_dim: int = key(128, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    rope_interleave: bool | None = True
    attention_bias: bool = False
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"mlp_bias": (False, None)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the part of a head that is rotated."""
        return RopeParameters.read(vars(self), head_dim=self.qk_rope_head_dim)

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(K + P) times the square of yarn's factor for whole heads.

        ``rope`` has the factor for the rotated numbers alone.
        """
        weight = RopeKeys.of(vars(self), None).number("mscale_all_dim", AT_LEAST_0, 0.0)
        sharper = 1 + 0.1 * weight * math.log(max(self.rope.factor, 1))
        return sharper**2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5

    @property
    def absent_letters(self) -> str:
        """The letter of key/value heads."""
        return "G"

    def check(self) -> None:
        """Refuse contradictions."""
        K, J = self.head_dim, self.qk_rope_head_dim
        require(K in (None, J), f"head_dim = {K} is not qk_rope_head_dim = {J}, which alone is rotated.")
        require(J % 2 == 0, f"qk_rope_head_dim = {J} makes no pairs.")
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        _ = self.scale


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(H[K+P] D)ᵀ", "not q_lora_rank"),
    "blocks.{i}.attention.q_down.weight": ("layers.{i}.self_attn.q_a_proj.weight", "(Q D)ᵀ", "q_lora_rank"),
    "blocks.{i}.attention.q_down.bias":
        ("layers.{i}.self_attn.q_a_proj.bias", "Q", "q_lora_rank and attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_a_layernorm.weight", "Q", "q_lora_rank"),
    "blocks.{i}.attention.q_up.weight":
        ("layers.{i}.self_attn.q_b_proj.weight", "(H[K+P] Q)ᵀ", "q_lora_rank"),
    "blocks.{i}.attention.kv_down.weight": ("layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.bias", "R+P", "attention_bias"),
    "blocks.{i}.attention.kv_norm.gain": ("layers.{i}.self_attn.kv_a_layernorm.weight", "R"),
    "blocks.{i}.attention.kv_up.weight": ("layers.{i}.self_attn.kv_b_proj.weight", "(H[K+U] R)ᵀ"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HU)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Latent attention, then feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: YoutuConfig):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        attention = LatentAttention if c.q_lora_rank is None else LatentQueryAttention
        self.attention = attention(
            w / "attention",
            heads=c.num_attention_heads,
            rank=c.kv_lora_rank,
            head_dim=c.qk_nope_head_dim,
            rope_dim=c.qk_rope_head_dim,
            value_dim=c.v_head_dim,
            scale=c.scale,
            eps=1e-6,  # whatever the other norms have
            rope=c.rope.rotary(interleaved=bool(c.rope_interleave)),
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Youtu(Decoder[YoutuConfig]):
    """Youtu-LLM 2B."""

    Config = YoutuConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: YoutuConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v3",
    kind="attention",
    changed="Latent attention in a dense model of 2B",
    why="long texts with a small cache",
    published="2B",
)
