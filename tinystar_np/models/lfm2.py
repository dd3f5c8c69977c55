"""LFM2 (Liquid AI 2025, arXiv:2511.23404): gated short convolutions, and attention in a few layers.

    x → norm → convolution or attention, q and k normed ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| mixer                      | position | norm                         | activation | block      | context |
|----------------------------|----------|------------------------------|------------|------------|---------|
| convolution over 3 tokens; | RoPE     | RMSNorm; of each q and k too | SwiGLU     | sequential | 32768   |
| GQA in 6 of 16 layers      |          |                              |            |            |         |

New in it: in ten of sixteen layers a token sees itself and the two before it, through a convolution between
two gates that depend on the token (layers/short_convolution.py). Such a layer keeps two vectors where
attention keeps the whole text. The makers searched for the arrangement by measuring speed and memory on a
phone's processor; linear attention or a state-space layer beside the convolutions added nothing where a few
layers attend to the whole text. Queries and keys are normed by head, as in Qwen3 (qwen3.py).

``intermediate_size`` in a file is the width of a feed-forward layer without a gate: the gated one has two
thirds of it, rounded up, and so as many weights.
"""

from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import silu
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Mixer, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.short_convolution import ShortConvolution
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import LARGEST_INT, Config, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

CONVOLUTION = "conv"
"""What ``layer_types`` calls a layer with a convolution."""


@dataclass(frozen=True)
class Lfm2Config(Config):
    """The keys of an LFM2 config.json that change the mathematics; defaults as in transformers.

    Where there is no ``layer_types``, ``full_attn_idxs`` lists the layers with attention.
    """

    vocab_size: int = key(65536, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(12288, aliases=("block_ff_dim",))
    block_auto_adjust_ff_dim: bool = True
    block_ffn_dim_multiplier: float = key(1.0, above=0)
    block_multiple_of: int = key(256, least=1)
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
    full_attn_idxs: list[int] | None = None
    tie_word_embeddings: bool = key(True, aliases=("tie_embedding",))

    # Keys of the hub's files that transformers does not read.
    REFUSED: ClassVar = {"use_pos_enc": (True, None), "block_use_swiglu": (True, None)}

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; F is computed from ``intermediate_size`` by the rule for gated layers."""
        F, multiple = self.intermediate_size, max(self.block_multiple_of, 1)
        if self.block_auto_adjust_ff_dim:
            F = -(-int(self.block_ffn_dim_multiplier * int(2 * F / 3)) // multiple) * multiple
        return super().sizes | {"F": F, "C": self.hidden_size}

    @property
    def absent_letters(self) -> str:
        """The letters of layers that there are none of."""
        return ("" if self.convolution_layers else "W") + ("" if self.attention_layers else "HGK")

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer: attention in all, unless the file says otherwise."""
        L = self.num_hidden_layers
        attending = range(L) if self.full_attn_idxs is None else self.full_attn_idxs
        usual = [FULL if i in attending else CONVOLUTION for i in range(L)]
        return list(layer_kinds(self.layer_types, usual, (FULL, CONVOLUTION)))

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is attention."""
        return [i for i, kind in enumerate(self.kinds) if kind == FULL]

    @property
    def convolution_layers(self) -> list[int]:
        """The layers whose mixer is a short convolution."""
        return [i for i, kind in enumerate(self.kinds) if kind == CONVOLUTION]

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where no layer attends."""
        if not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        F, multiplier, multiple = self.sizes["F"], self.block_ffn_dim_multiplier, self.block_multiple_of
        require(
            1 <= F <= LARGEST_INT,
            f"intermediate_size = {self.intermediate_size}, block_ffn_dim_multiplier = {multiplier} and "
            f"block_multiple_of = {multiple} make feed-forward layers {shown(F)} wide.",
        )
        super().check()


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
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.feed_forward.w1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.feed_forward.w3.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.feed_forward.w2.weight", "(D F)ᵀ"),
    "final_norm.gain": ("embedding_norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """A short convolution or attention, then feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Lfm2Config, i: int):
        self.mixer: Mixer
        if i in c.convolution_layers:
            self.name = "mixer"
            self.mixer = ShortConvolution(w / "mixer")
        else:
            self.name = "attention"
            self.mixer = attention(w / "attention", c)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.norm_eps)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", silu)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def attention(w: Weights, c: Lfm2Config) -> Attention:
    """Build an attention layer, with norms of each head's query and key."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    q_norm, k_norm = (RMSNorm(w / name, eps=c.norm_eps) for name in ("q_norm", "k_norm"))
    rope = c.rope.rotary() if c.rope else None
    return Attention(w, heads=H, kv_heads=G, head_dim=K, rope=rope, norms=(q_norm, k_norm))


class Lfm2(Decoder[Lfm2Config]):
    """LFM2 in 350M, 700M, 1.2B and 2.6B, and LFM2.5."""

    Config = Lfm2Config
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "C"))
    PREFIX = "model."

    def build(self, w: Weights, c: Lfm2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3",
    kind="recurrence",
    changed="Gated convolutions over three tokens in ten of sixteen layers",
    why="most layers keep two vectors instead of a cache, and cost little on a phone",
    published="1.2B",
    keys={
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    },
)
