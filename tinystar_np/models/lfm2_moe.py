"""LFM2 with experts (Liquid AI 2025, arXiv:2511.23404): small experts in all layers but the first two.

    x → norm → convolution or attention, q and k normed ──+ x → norm → experts ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| mixer                      | position | norm             | feed-forward             | block      | context |
|----------------------------|----------|------------------|--------------------------|------------|---------|
| convolution over 3 tokens; | RoPE     | RMSNorm; of each | SwiGLU; 4 of 32 experts, | sequential | 32768   |
| GQA in 6 of 24 layers      |          | q and k too      | dense in 2 layers        |            |         |

New in it, beside LFM2 (lfm2.py): 32 experts in a layer, of which a token uses four, so that 8 billion weights
cost what 1.5 billion do. They are chosen as in DeepSeek-V3 (deepseek_v3.py), by the sigmoid of their scores
plus a correction that affects the choice alone; there are no groups of them, and no shared expert.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import silu
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, Mixer, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.short_convolution import ShortConvolution
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

CONVOLUTION = "conv"
"""What ``layer_types`` calls a layer with a convolution."""


@dataclass(frozen=True)
class Lfm2MoeConfig(Config):
    """The keys of an LFM2-MoE config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(65536, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(7168, letter="F")
    moe_intermediate_size: int = key(1792, letter="M")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    max_position_embeddings: int = key(128_000, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(1_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    conv_bias: bool = False
    conv_L_cache: int = key(3, letter="W")  # noqa: N815 — the file's name
    layer_types: list[str] | None = None
    num_dense_layers: int = key(2, least=0)
    num_experts: int = key(32, letter="E")
    num_experts_per_tok: int = key(4, chosen_of="E")
    use_expert_bias: bool = True
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    tie_word_embeddings: bool = key(True, aliases=("tie_embedding",))

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with C channels of convolutions, as many as the stream is wide."""
        return super().sizes | {"C": self.hidden_size}

    @property
    def absent_letters(self) -> str:
        """The letters of layers that there are none of."""
        experts = "" if self.expert_layers else "EM"
        dense = "" if self.num_dense_layers else "F"
        mixers = ("" if self.convolution_layers else "W") + ("" if self.attention_layers else "HGK")
        return experts + dense + mixers

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer: attention in all, unless the file says otherwise."""
        return list(layer_kinds(self.layer_types, [FULL] * self.num_hidden_layers, (FULL, CONVOLUTION)))

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is attention."""
        return [i for i, kind in enumerate(self.kinds) if kind == FULL]

    @property
    def convolution_layers(self) -> list[int]:
        """The layers whose mixer is a short convolution."""
        return [i for i, kind in enumerate(self.kinds) if kind == CONVOLUTION]

    @property
    def expert_layers(self) -> range:
        """The layers with experts, all after the first dense ones."""
        return range(self.num_dense_layers, self.num_hidden_layers)

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where no layer attends."""
        if not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.operator_norm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_layernorm.weight", "K", "attention_layers"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_layernorm.weight", "K", "attention_layers"),
    "blocks.{i}.attention.out.weight":
        ("layers.{i}.self_attn.out_proj.weight", "(D HK)ᵀ", "attention_layers"),
    # in layers with a convolution
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.operator_norm.weight", "D", "convolution_layers"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}.conv.in_proj.weight", "(3C D)ᵀ", "convolution_layers"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}.conv.in_proj.bias", "3C", "convolution_layers and conv_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.conv.conv.weight", "C 1 W", "convolution_layers"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}.conv.conv.bias", "C", "convolution_layers and conv_bias"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.conv.out_proj.weight", "(D C)ᵀ", "convolution_layers"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.conv.out_proj.bias", "D", "convolution_layers and conv_bias"),
    # in every layer
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.ffn_norm.weight", "D"),
    # in the first layers
    "blocks.{i}.feed_forward.gate.weight":
        ("layers.{i}.feed_forward.w1.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.feed_forward.w3.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight":
        ("layers.{i}.feed_forward.w2.weight", "(D F)ᵀ", "not expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.feed_forward.expert_bias", "E", "expert_layers and use_expert_bias"),
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.feed_forward.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.feed_forward.experts.{e}.w1.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.feed_forward.experts.{e}.w3.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.{e}.w2.weight", "(D M)ᵀ", "expert_layers"),
    "final_norm.gain": ("embedding_norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # transformers 5's names in memory, which save_pretrained changes back
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj[:M]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj[M:]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.down_proj", "E (D M)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """A short convolution or attention, then experts: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Lfm2MoeConfig, i: int):
        self.mixer: Mixer
        if i in c.convolution_layers:
            self.name = "mixer"
            self.mixer = ShortConvolution(w / "mixer")
        else:
            self.name = "attention"
            self.mixer = attention(w / "attention", c)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.norm_eps)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def attention(w: Weights, c: Lfm2MoeConfig) -> Attention:
    """Build an attention layer, with norms of each head's query and key."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    q_norm, k_norm = (RMSNorm(w / name, eps=c.norm_eps) for name in ("q_norm", "k_norm"))
    rope = c.rope.rotary() if c.rope else None
    return Attention(w, heads=H, kv_heads=G, head_dim=K, rope=rope, norms=(q_norm, k_norm))


def feed_forward(w: Weights, c: Lfm2MoeConfig, i: int) -> Layer:
    """Build layer i's experts, or its dense feed-forward layer."""
    if i not in c.expert_layers:
        return GatedFeedForward(w, silu)
    E = c.num_experts
    correction = w["router.correction"] if c.use_expert_bias else np.zeros(E, dtype=np.float32)
    routing = partial(
        sigmoid_grouped_top_k, correction=correction, normed=c.norm_topk_prob,
        factor=c.routed_scaling_factor, eps=1e-6,
    )  # fmt: skip
    experts = gated_experts(w / "experts", E, silu)
    return Experts(w, experts, per_token=c.num_experts_per_tok, routing=routing)


class Lfm2Moe(Decoder[Lfm2MoeConfig]):
    """LFM2-8B-A1B, of whose weights a token uses 1.5 billion."""

    Config = Lfm2MoeConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "C"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r".*\.expert_bias"  # where use_expert_bias is false

    def build(self, w: Weights, c: Lfm2MoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="lfm2",
    kind="experts",
    changed="32 experts, 4 for a token, chosen by sigmoids and a correction",
    why="8 billion weights for the work of 1.5 billion",
    published="8B-A1B",
    keys={
        "num_hidden_layers": 24,
        "layer_types": ["full_attention" if i in (2, 6, 10, 14, 18, 21) else "conv" for i in range(24)],
    },
)
