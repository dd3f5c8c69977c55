"""OLMo Hybrid (Team Olmo 2026): OLMo 3 with delta nets, and no positions.

    x → attention → norm ──+ x → feed-forward → norm ──+ x      every fourth layer
    x → norm → delta net ──+ x → norm → feed-forward ──+ x      the others
    logits = norm(x) · W

| mixer             | position | norm    | activation | block                           | context |
|-------------------|----------|---------|------------|---------------------------------|---------|
| delta net in 3 of | none     | RMSNorm | SwiGLU     | norms on the branches, before   | 65536   |
| 4 layers; MHA     |          |         |            | the branches around a delta net |         |

New in it, beside OLMo 3 (olmo3.py): the layers with a window are delta nets (Yang et al. 2024,
arXiv:2412.06464), which keep a matrix for each head instead of the last 4096 keys. β, the share of the
difference that a token writes, goes up to 2 instead of 1: with β = 2 the state along a key changes its sign,
and so can count modulo 2 (Grazzi et al. 2024, arXiv:2411.12537). The published model has no rotations, which
its ``rope_theta`` of null says; the recurrences carry the order. Around a delta net norms stand before the
branches, as in Llama. The epsilon of the norm within a delta net is 1e-5, whatever the config says. Files
have separate convolutions for queries, keys and values; transformers joins them, and saves what it joined as
three parts of equal size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, sigmoid
from tinystar_np.layers.attention import JointNormAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Mixer, RMSNorm, linear_each
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

LINEAR = "linear_attention"
DELTA_EPS = 1e-5


@dataclass(frozen=True)
class OlmoHybridConfig(Config):
    """The keys of an OLMo Hybrid config.json that change the mathematics; defaults as in transformers.

    A ``rope_theta`` of null, inside ``rope_parameters`` or outside, says that nothing rotates.
    """

    vocab_size: int = key(100352, letter="V")
    hidden_size: int = key(3840, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(30, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(65536, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float | None = 10000.0
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    layer_types: list[str] | None = None
    linear_num_key_heads: int | None = key(None, letter="X")
    linear_num_value_heads: int | None = key(None, letter="Y")
    linear_key_head_dim: int | None = key(None, letter="P")
    linear_value_head_dim: int | None = key(None, letter="U")
    linear_conv_kernel_dim: int = key(4, letter="W")
    linear_allow_neg_eigval: bool = True
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; a delta net has as many heads as attention, with keys of 3/4 of the width together."""
        X, Y = self.linear_num_key_heads, self.linear_num_value_heads
        X, Y = (self.num_attention_heads if heads is None else heads for heads in (X, Y))
        P, U = self.linear_key_head_dim, self.linear_value_head_dim
        P = int(0.75 * self.hidden_size / max(X, 1)) if P is None else P
        U = 2 * P if U is None else U
        channels = 2 * X * P + Y * U
        C = -(-channels // 3)  # what transformers saves as q, k and v of the convolution
        found = {**super().sizes, "X": X, "Y": Y, "P": P, "U": U, "C": C, "J": channels - 2 * C}
        return {letter: size for letter, size in found.items() if letter not in self.absent_letters}

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of each layer; where the file names none, every fourth is attention, or else the last."""
        usual = [LINEAR if (i + 1) % 4 else FULL for i in range(self.num_hidden_layers)]
        if FULL not in usual:
            usual[-1] = FULL
        return layer_kinds(self.layer_types, usual, (LINEAR, FULL))

    @property
    def attention_layers(self) -> Sequence[int]:
        """The layers whose mixer is attention."""
        return [i for i, kind in enumerate(self.kinds) if kind == FULL]

    @property
    def linear_layers(self) -> Sequence[int]:
        """The layers whose mixer is a delta net."""
        return [i for i, kind in enumerate(self.kinds) if kind == LINEAR]

    @property
    def absent_letters(self) -> str:
        """The letters of attention and of delta nets, where there are none."""
        return ("" if self.attention_layers else "GK") + ("" if self.linear_layers else "XYPUWCJ")

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where nothing rotates."""
        inside = self.rope_scaling or self.rope_parameters or {}
        if inside.get("rope_theta", self.rope_theta) is None or not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        if self.linear_layers:
            X, Y = self.sizes["X"], self.sizes["Y"]
            said = f"linear_num_value_heads = {Y} cannot be divided among linear_num_key_heads = {X} groups."
            require(Y % X == 0, said)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.q.bias":
        ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "HK", "attention_layers"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "GK", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias":
        ("layers.{i}.self_attn.o_proj.bias", "D", "attention_layers and attention_bias"),
    "blocks.{i}.attention_post_norm.gain":
        ("layers.{i}.post_attention_layernorm.weight", "D", "attention_layers"),
    "blocks.{i}.feed_forward_post_norm.gain":
        ("layers.{i}.post_feedforward_layernorm.weight", "D", "attention_layers"),
    # in layers with a delta net
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "linear_layers"),
    "blocks.{i}.mixer.in_q.weight": ("layers.{i}.linear_attn.q_proj.weight", "(XP D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.in_k.weight": ("layers.{i}.linear_attn.k_proj.weight", "(XP D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.in_v.weight": ("layers.{i}.linear_attn.v_proj.weight", "(YU D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.z.weight": ("layers.{i}.linear_attn.g_proj.weight", "(YU D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.b.weight": ("layers.{i}.linear_attn.b_proj.weight", "(Y D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.a.weight": ("layers.{i}.linear_attn.a_proj.weight", "(Y D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.convolution.q.weight":
        ("layers.{i}.linear_attn.q_conv1d.weight", "XP 1 W", "linear_layers"),
    "blocks.{i}.mixer.convolution.k.weight":
        ("layers.{i}.linear_attn.k_conv1d.weight", "XP 1 W", "linear_layers"),
    "blocks.{i}.mixer.convolution.v.weight":
        ("layers.{i}.linear_attn.v_conv1d.weight", "YU 1 W", "linear_layers"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}.linear_attn.dt_bias", "Y", "linear_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.linear_attn.A_log", "Y", "linear_layers"),
    "blocks.{i}.mixer.norm.gain": ("layers.{i}.linear_attn.o_norm.weight", "U", "linear_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.linear_attn.o_proj.weight", "(D YU)ᵀ", "linear_layers"),
    "blocks.{i}.feed_forward_norm.gain":
        ("layers.{i}.post_attention_layernorm.weight", "D", "linear_layers"),
    # in every layer
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
ONE_CONVOLUTION: WeightTable = {  # as transformers 5 has them in memory: in one tensor
    "blocks.{i}.mixer.convolution.q.weight":
        ("layers.{i}.linear_attn.conv1d.weight[:XP]", "2XP+YU 1 W", "linear_layers"),
    "blocks.{i}.mixer.convolution.k.weight":
        ("layers.{i}.linear_attn.conv1d.weight[XP:2XP]", "2XP+YU 1 W", "linear_layers"),
    "blocks.{i}.mixer.convolution.v.weight":
        ("layers.{i}.linear_attn.conv1d.weight[2XP:]", "2XP+YU 1 W", "linear_layers"),
}  # fmt: skip
THIRDS: WeightTable = {  # as transformers 5 saves them: cut into three that are as equal as can be
    "blocks.{i}.mixer.convolution.q.weight":
        ("layers.{i}.linear_attn.q_conv1d.weight", "C 1 W", "linear_layers"),
    "blocks.{i}.mixer.convolution.k.weight":
        ("layers.{i}.linear_attn.k_conv1d.weight", "C 1 W", "linear_layers"),
    "blocks.{i}.mixer.convolution.v.weight":
        ("layers.{i}.linear_attn.v_conv1d.weight", "J 1 W", "linear_layers"),
}  # fmt: skip


class DeltaNet(GatedDeltaNet):
    """Gated delta net with a matrix for each of queries, keys, values, z, b and a; β may go to 2.

    w             as in ``GatedDeltaNet``, with linear layers ``in_q`` and ``in_k`` (D, G·K), ``in_v`` and
                  ``z`` (D, H·K_v), ``b`` and ``a`` (D, H) instead of ``in`` and ``in_gates``, and
                  ``convolution`` divided into ``q``, ``k`` and ``v``
    c             the config; β may go to 2 where it has ``linear_allow_neg_eigval``
    """

    def __init__(self, w: Weights, c: OlmoHybridConfig):
        X, Y, P, U = self.sizes = tuple(c.sizes[letter] for letter in "XYPU")
        activation = ACTIVATIONS[c.hidden_act]
        super().__init__(
            w, heads=Y, groups=X, head_dim=P, value_dim=U, eps=DELTA_EPS, activation=activation
        )  # fmt: skip
        self.largest_beta = np.float32(2 if c.linear_allow_neg_eigval else 1)

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, keys, values and gates."""
        names = "in_q", "in_k", "in_v", "z", "b", "a"
        self.q, self.k, self.v, self.z, self.b, self.a = (Linear(w / name) for name in names)

    def convolution_weight(self, w: Weights) -> NDArray:
        """Put the weights of the three convolutions side by side."""
        weight = np.concatenate([w[f"convolution.{name}.weight"] for name in "qkv"])
        X, Y, P, U = self.sizes
        own = w.heads(Y, X)
        if len(weight) == 2 * len(own.groups) * P + len(own.heads) * U:
            return weight
        # A file may have cut the three anywhere: then each rank has all, and takes its channels.
        channels = np.arange(2 * X * P + Y * U)
        q, k, v = np.split(channels, (X * P, 2 * X * P))
        of_groups, of_heads = (
            slice(own.groups.start * P, own.groups.stop * P),
            slice(own.heads.start * U, own.heads.stop * U),
        )
        return weight[np.concatenate((q[of_groups], k[of_groups], v[of_heads]))]

    def projected(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Make all queries, keys and values (B, T, 2·G·K + H·K_v), z (B, T, H·K_v), b and a (B, T, H)."""
        q, k, v, z, b, a = linear_each((self.q, self.k, self.v, self.z, self.b, self.a), x)
        return tap("mixer.in", np.concatenate((q, k, v), axis=-1)), tap("mixer.z", z), b, a

    def shares(self, b: NDArray) -> NDArray:
        """Compute β, the share of a difference that is written."""
        return self.largest_beta * sigmoid(b)


class Block(Module):
    """Attention with norms on the branches, or a delta net with norms before them; then feed-forward."""

    def __init__(self, w: Weights, c: OlmoHybridConfig, i: int):
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.mixer: Mixer
        self.normed_first = i in c.linear_layers
        if self.normed_first:
            self.mixer = DeltaNet(w / "mixer", c)
            self.mixer_norm, self.feed_forward_norm = norm(w / "mixer_norm"), norm(w / "feed_forward_norm")
        else:
            H, G, K = (c.sizes[letter] for letter in "HGK")
            self.mixer = JointNormAttention(
                w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary() if c.rope else None,
                norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
            )  # fmt: skip
            self.attention_post_norm = norm(w / "attention_post_norm")
            self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        if self.normed_first:
            normed = tap("mixer_norm", self.mixer_norm(x))
            x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
            normed = tap("feed_forward_norm", self.feed_forward_norm(x))
            return tap("residual", x + self.feed_forward(normed))
        y = tap("attention_post_norm", self.attention_post_norm(self.mixer(x, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(x)))
        return tap("residual", x + y)


class OlmoHybrid(Decoder[OlmoHybridConfig]):
    """OLMo Hybrid 7B."""

    Config = OlmoHybridConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "YX"))
    OTHER_FORMS = (ONE_CONVOLUTION, THIRDS)
    OTHER_NAMES: ClassVar = {
        r"(layers\.\d+\.)attention_layer_norm\.weight": r"\1input_layernorm.weight",
        r"(layers\.\d+\.)feedforward_layer_norm\.weight": r"\1post_attention_layernorm.weight",
    }
    PREFIX = "model."

    def build(self, w: Weights, c: OlmoHybridConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="olmo3",
    kind="recurrence",
    changed="Delta nets in three of four layers; nothing rotates",
    why="a state of fixed size in place of windows",
    published="7B",
    keys={"num_hidden_layers": 4},
)
