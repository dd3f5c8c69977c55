"""LFM3 (Liquid AI 2026), 1.7B: convolutions, windows and full attention, with norms on both sides.

    x → norm → convolution or gated attention → norm ──+ x → norm → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| mixer                      | position             | norm               | activation | block      | context |
|----------------------------|----------------------|--------------------|------------|------------|---------|
| convolution over 7 tokens; | RoPE, base 10⁴ near; | RMSNorm before and | SwiGLU     | sequential | 128000  |
| GQA in half the layers;    | 10⁶ far, half of the | after both; of     |            |            |         |
| window 256 in half of them | pairs                | each q and k too   |            |            |         |

New in it, beside LFM2 (lfm2.py): attention is in every second layer, but sees 256 tokens in half of these;
convolutions reach over seven tokens. What a mixer or a feed-forward layer gives is normed before it is added,
as in Gemma 2 (gemma2.py), and each head of attention has a gate (Qiu et al. 2025, arXiv:2505.06708), here one
number that the token computes. In layers that see all, half of the pairs do not rotate, as in Gemma 4
(gemma4_text.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import silu
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Mixer, RMSNorm
from tinystar_np.layers.gated_attention import SeparatelyGatedAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.short_convolution import ShortConvolution
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

CONVOLUTION = "conv"
"""What ``layer_types`` calls a layer with a convolution."""
PERIOD = (SLIDING, CONVOLUTION, FULL, CONVOLUTION)
USUAL_ROPES: JsonObject = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "rope_theta": 1_000_000.0, "partial_rotary_factor": 0.5},
}
"""The rotations of a config.json that says nothing of them."""


@dataclass(frozen=True)
class Lfm3Config(Config):
    """The keys of an LFM3 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(128_000, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(7680, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int = key(4, letter="G")
    head_dim: int = key(128, letter="K")
    max_position_embeddings: int = key(128_000, is_trained_length=True)
    norm_eps: float = key(1e-5, above=0, aliases=("rms_norm_eps",))
    rope_parameters: JsonObject | None = None
    conv_bias: bool = False
    conv_L_cache: int = key(7, letter="W")  # noqa: N815 — the file's name
    sliding_window: int | None = 256
    layer_types: list[str] | None = None
    use_sandwich_norm: bool = True
    use_attention_gate: bool = True
    attention_bias: bool = False
    tie_word_embeddings: bool = key(True, aliases=("tie_embedding",))

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with C channels of convolutions, as many as the stream is wide."""
        return super().sizes | {"C": self.hidden_size}

    @property
    def absent_letters(self) -> str:
        """The letters of layers that there are none of."""
        return ("" if self.convolution_layers else "W") + ("" if self.attention_layers else "HGK")

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer: from the second on, one of four sees all and one has a window."""
        usual = [PERIOD[i % 4] if i else CONVOLUTION for i in range(self.num_hidden_layers)]
        return list(layer_kinds(self.layer_types, usual, (FULL, SLIDING, CONVOLUTION)))

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is attention."""
        return [i for i, kind in enumerate(self.kinds) if kind != CONVOLUTION]

    @property
    def convolution_layers(self) -> list[int]:
        """The layers whose mixer is a short convolution."""
        return [i for i, kind in enumerate(self.kinds) if kind == CONVOLUTION]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer."""
        kinds, window = self.kinds, self.sliding_window
        if SLIDING in kinds:
            said = f"layer_types[{kinds.index(SLIDING)}] = {SLIDING!r}, but no sliding_window is in use."
            require(window is not None, said)
            require(
                window is None or window >= 1,
                f"sliding_window = {window}, but a token sees at least itself.",
            )
        return tuple(window if kind == SLIDING else None for kind in kinds)

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rotary embedding's parameters in each kind of layer that there is."""
        keys = {**vars(self), "rope_parameters": self.rope_parameters or USUAL_ROPES}
        kinds = sorted({*self.kinds} - {CONVOLUTION})
        return {kind: RopeParameters.read(keys, head_dim=self.sizes["K"], kind=kind) for kind in kinds}

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters where attention sees all, or else in windows."""
        return self.ropes.get(FULL, self.ropes.get(SLIDING))

    def check(self) -> None:
        """Refuse contradictions."""
        given = self.rope_parameters or {}
        flat = {name: value for name, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {shown(flat)} outside of the two kinds of layers.")
        super().check()


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.operator_norm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.q.bias":
        ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K", "attention_layers"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K", "attention_layers"),
    "blocks.{i}.attention.gate.weight":
        ("layers.{i}.self_attn.g_proj.weight", "(H D)ᵀ", "attention_layers and use_attention_gate"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias":
        ("layers.{i}.self_attn.o_proj.bias", "D", "attention_layers and attention_bias"),
    "blocks.{i}.attention_post_norm.gain":
        ("layers.{i}.post_operator_norm.weight", "D", "attention_layers and use_sandwich_norm"),
    # in layers with a convolution
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.operator_norm.weight", "D", "convolution_layers"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}.conv.in_proj.weight", "(3C D)ᵀ", "convolution_layers"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}.conv.in_proj.bias", "3C", "convolution_layers and conv_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.conv.conv.weight", "C 1 W", "convolution_layers"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}.conv.conv.bias", "C", "convolution_layers and conv_bias"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.conv.out_proj.weight", "(D C)ᵀ", "convolution_layers"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.conv.out_proj.bias", "D", "convolution_layers and conv_bias"),
    "blocks.{i}.mixer_post_norm.gain":
        ("layers.{i}.post_operator_norm.weight", "D", "convolution_layers and use_sandwich_norm"),
    # in every layer
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.ffn_norm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.feed_forward.w1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.feed_forward.w3.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.feed_forward.w2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain":
        ("layers.{i}.post_ffn_norm.weight", "D", "use_sandwich_norm"),
    "final_norm.gain": ("embedding_norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """A convolution or attention, then feed-forward: each reads a normed copy and adds a normed result."""

    def __init__(self, w: Weights, c: Lfm3Config, i: int):
        norm = partial(RMSNorm, eps=c.norm_eps)
        self.mixer: Mixer
        if i in c.convolution_layers:
            self.name = "mixer"
            self.mixer = ShortConvolution(w / "mixer")
        else:
            self.name = "attention"
            self.mixer = attention(w / "attention", c, i)
        self.mixer_norm, self.feed_forward_norm = norm(w / f"{self.name}_norm"), norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", silu)
        names = (f"{self.name}_post_norm", "feed_forward_post_norm") if c.use_sandwich_norm else ()
        self.norms = {name: norm(w / name) for name in names}
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        y = self.mixer(tap(f"{self.name}_norm", self.mixer_norm(x)), step, state)
        x = tap("residual_middle", step.wanted(x) + self.normed(y, f"{self.name}_post_norm"))
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        return tap("residual", x + self.normed(y, "feed_forward_post_norm"))

    def normed(self, y: NDArray, name: str) -> NDArray:
        """Norm what a mixer or feed-forward layer gave, where the model does so."""
        return tap(name, self.norms[name](y)) if name in self.norms else y


def attention(w: Weights, c: Lfm3Config, i: int) -> Attention:
    """Build the attention of layer i, with norms of each head's query and key."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    kind = SeparatelyGatedAttention if c.use_attention_gate else Attention
    return kind(
        w, heads=H, kv_heads=G, head_dim=K, rope=c.ropes[c.kinds[i]].rotary(), window=c.windows[i],
        norms=(RMSNorm(w / "q_norm", eps=c.norm_eps), RMSNorm(w / "k_norm", eps=c.norm_eps)),
    )  # fmt: skip


class Lfm3(Decoder[Lfm3Config]):
    """LFM3 1.7B."""

    Config = Lfm3Config
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "C"))
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {
        r"(layers\.\d+\.self_attn)\.gate_proj\.weight": r"\1.g_proj.weight",  # in the files
    }

    def build(self, w: Weights, c: Lfm3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="lfm2",
    kind="attention",
    changed="Attention in every second layer, half of it in windows; gated heads; norms after both",
    why="more attention, of which most costs no longer cache",
    published="1.7B",
)
