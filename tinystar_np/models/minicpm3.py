"""MiniCPM3 (OpenBMB 2024, arXiv:2404.06395): latent attention and µP scales in a small model.

    x₀ = e · embedding
    x → norm → latent attention → · r ──+ x → norm → feed-forward → · r ──+ x      (× L)
    logits = norm(x) / d · W                  r = scale_depth / √L, d = D / dim_model_base

| attention       | position                | norm    | activation | block      | context |
|-----------------|-------------------------|---------|------------|------------|---------|
| latent, R = 256 | RoPE on 32 of 96,       | RMSNorm | SwiGLU     | sequential | 32768   |
|                 | longrope                |         |            |            |         |

New in it: latent attention (kernels/latent_attention.py; DeepSeek-V2, Liu et al. 2024, arXiv:2405.04434) in
a model of 4 billion weights, whose 40 heads would need 5120 numbers of keys and values for each token and
layer, where 288 are kept. The scales keep activations as large in a deep and wide model as in a shallow and
narrow one, so that the learning rate tuned on a small model serves (µP, Yang et al. 2022, arXiv:2203.03466):
a branch counts less the more layers there are, and the last vector is divided by how much wider the model is
than the small one. Granite (granite.py) has the same scales under other names.
"""

import math
from dataclasses import dataclass

import numpy as np
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
from tinystar_np.models.vision_part import with_images
from tinystar_np.tap import tap


@dataclass(frozen=True)
class MiniCPM3Config(Config):
    """The keys of a MiniCPM3 config.json that change the mathematics; defaults as in transformers.

    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups. A null of
    ``scale_depth`` or ``dim_model_base`` means that nothing is scaled.
    """

    vocab_size: int = key(73448, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(6400, letter="F")
    num_hidden_layers: int = key(62, letter="L")
    num_attention_heads: int = key(40, letter="H")
    num_key_value_heads: int | None = 40
    kv_lora_rank: int = key(256, letter="R")
    q_lora_rank: int | None = key(768, letter="Q")
    qk_nope_head_dim: int = key(64, letter="K")
    qk_rope_head_dim: int = key(32, letter="P")
    v_head_dim: int | None = key(None, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    scale_emb: float = 12.0
    scale_depth: float | None = 1.4
    dim_model_base: int | None = key(256, least=1)
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the part of a head that is rotated."""
        return RopeParameters.read(vars(self), head_dim=self.qk_rope_head_dim)

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(K + P) times the square of yarn's factor for whole heads."""
        weight = RopeKeys.of(vars(self), None).number("mscale_all_dim", AT_LEAST_0, 0.0)
        sharper = 1 + 0.1 * weight * math.log(max(self.rope.factor, 1))
        return sharper**2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5

    @property
    def residual_scale(self) -> float:
        """What each branch is multiplied by before it is added."""
        return 1.0 if self.scale_depth is None else self.scale_depth / math.sqrt(self.num_hidden_layers)

    @property
    def logits_scaling(self) -> float:
        """How much wider the model is than the one on which the learning rate was tuned."""
        return self.hidden_size / (self.dim_model_base or self.hidden_size)

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters; where ``v_head_dim`` is null, values divide the width among themselves."""
        found = super().sizes
        return {**found, "U": found.get("U", self.hidden_size // max(self.num_attention_heads, 1))}

    @property
    def absent_letters(self) -> str:
        """That of key/value heads."""
        return "G"

    def check(self) -> None:
        """Refuse contradictions."""
        require(self.qk_rope_head_dim % 2 == 0, f"qk_rope_head_dim = {self.qk_rope_head_dim} makes no pairs.")
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
    "blocks.{i}.feed_forward.gate.bias": ("layers.{i}.mlp.gate_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias": ("layers.{i}.mlp.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias": ("layers.{i}.mlp.down_proj.bias", "D", "mlp_bias"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Each branch reads a normed copy of the residual stream and adds r times its result."""

    def __init__(self, w: Weights, c: MiniCPM3Config, i: int):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        attention = LatentAttention if c.q_lora_rank is None else LatentQueryAttention
        self.attention = attention(
            w / "attention",
            heads=c.num_attention_heads,
            rank=c.kv_lora_rank,
            head_dim=c.qk_nope_head_dim,
            rope_dim=c.qk_rope_head_dim,
            value_dim=c.sizes["U"],
            scale=c.scale,
            eps=1e-6,  # whatever the other norms have
            rope=c.rope.rotary(),
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.residual_scale = np.float32(c.residual_scale)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_scaled", self.attention(normed, step, state) * self.residual_scale)
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        y = tap("feed_forward_scaled", self.feed_forward(normed) * self.residual_scale)
        return tap("residual", x + y)


class MiniCPM3(Decoder[MiniCPM3Config]):
    """MiniCPM3-4B."""

    Config = MiniCPM3Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: MiniCPM3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by e: ids (B, T) → (B, T, D); images are not multiplied."""
        x = self.embedding(ids) * np.float32(self.config.scale_emb)
        x = tap("embedding.tokens", x)  # transformers' embedding multiplies as well
        return tap("embedding", x if step.images is None else with_images(x, step))

    def logits(self, x: NDArray) -> NDArray:
        """Divide by how much wider the model is, and score every token: (B, T, D) → (B, T, V)."""
        return self.head(x / np.float32(self.config.logits_scaling))


FACTS = Facts(
    grew_from="deepseek_v2",
    kind="attention",
    changed="Latent attention without experts; scales of embedding, branches and logits",
    why="a small cache in a small model; a learning rate tuned on a smaller one",
    published="4B",
    keys={"v_head_dim": 64},
)
