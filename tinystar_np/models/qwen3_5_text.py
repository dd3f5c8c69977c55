"""Qwen3.5 (Qwen Team 2026): a dense Qwen3-Next that reads images as well.

    x → norm → delta net or attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| mixer                | position       | norm         | feed-forward | block      | context |
|----------------------|----------------|--------------|--------------|------------|---------|
| delta net; gated GQA | RoPE on 1 of 4 | RMSNorm, 1+w | SwiGLU       | sequential | 262144  |

New in it, beside Qwen3-Next (qwen3_next.py): delta nets (Yang et al. 2024, arXiv:2412.06464) stand with dense
feed-forward layers; their queries, keys and values, and the gates z, b and a, have a matrix each, so that
processors can share the heads. The files are of models of text and images, and this is their text part. With
images, rotations go by time, row and column; in a text the three are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Mixer, RMSNorm
from tinystar_np.layers.delta_net import SplitGatedDeltaNet
from tinystar_np.layers.gated_attention import GatedAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

LINEAR = "linear_attention"


@dataclass(frozen=True)
class Qwen35TextConfig(Config):
    """The keys of the text part's config that change the mathematics; defaults as in transformers."""

    REFUSED: ClassVar = {"attn_output_gate": (True, None), "mlp_only_layers": (None, [])}

    vocab_size: int = key(248320, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(12288, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(4, letter="G")
    head_dim: int | None = key(256, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.25  # null rotates whole heads
    attention_bias: bool = False
    layer_types: list[str] | None = None
    full_attention_interval: int | None = 4
    linear_num_key_heads: int = key(16, letter="X")
    linear_num_value_heads: int = key(32, letter="Y")
    linear_key_head_dim: int = key(128, letter="P")
    linear_value_head_dim: int = key(128, letter="U")
    linear_conv_kernel_dim: int = key(4, letter="W")
    tie_word_embeddings: bool = False

    @property
    def attention_layers(self) -> Sequence[int]:
        """The layers whose mixer is attention: every fourth, unless the file says otherwise."""
        return self._layers(FULL)

    @property
    def linear_layers(self) -> Sequence[int]:
        """The layers whose mixer is a delta net."""
        return self._layers(LINEAR)

    def _layers(self, kind: str) -> Sequence[int]:
        named = self.layer_types is not None
        n = 1 if named else at_least_1("full_attention_interval", self.full_attention_interval)
        usual = [LINEAR if (i + 1) % n else FULL for i in range(self.num_hidden_layers)]
        kinds = layer_kinds(self.layer_types, usual, (LINEAR, FULL))
        return [i for i, name in enumerate(kinds) if name == kind]

    @property
    def absent_letters(self) -> str:
        """The letters of attention and of delta nets, where there are none."""
        return ("" if self.attention_layers else "HGK") + ("" if self.linear_layers else "XYPUW")

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None in a model without attention."""
        if not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        X, Y = self.linear_num_key_heads, self.linear_num_value_heads
        require(
            not self.linear_layers or Y % X == 0,
            f"linear_num_value_heads = {Y} cannot be divided among linear_num_key_heads = {X} groups.",
        )


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(H2K D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.q.bias":
        ("layers.{i}.self_attn.q_proj.bias", "H2K", "attention_layers and attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K", "attention_layers"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias":
        ("layers.{i}.self_attn.o_proj.bias", "D", "attention_layers and attention_bias"),
    # in layers with a delta net
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "linear_layers"),
    "blocks.{i}.mixer.qkv.weight":
        ("layers.{i}.linear_attn.in_proj_qkv.weight", "(2XP+YU D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.z.weight": ("layers.{i}.linear_attn.in_proj_z.weight", "(YU D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.b.weight": ("layers.{i}.linear_attn.in_proj_b.weight", "(Y D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.a.weight": ("layers.{i}.linear_attn.in_proj_a.weight", "(Y D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.convolution.weight":
        ("layers.{i}.linear_attn.conv1d.weight", "2XP+YU 1 W", "linear_layers"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}.linear_attn.dt_bias", "Y", "linear_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.linear_attn.A_log", "Y", "linear_layers"),
    "blocks.{i}.mixer.norm.gain": ("layers.{i}.linear_attn.norm.weight", "U", "linear_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.linear_attn.out_proj.weight", "(D YU)ᵀ", "linear_layers"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Delta net or attention, then feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Qwen35TextConfig, i: int):
        self.mixer: Mixer
        if i in c.linear_layers:
            self.name = "mixer"
            self.mixer = delta_net(w / "mixer", c)
        else:
            self.name = "attention"
            self.mixer = gated_attention(w / "attention", c)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.rms_norm_eps, offset=1.0)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps, offset=1.0)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def delta_net(w: Weights, c: Qwen35TextConfig) -> SplitGatedDeltaNet:
    """Build a delta net."""
    X, Y, P, U = (c.sizes[letter] for letter in "XYPU")
    return SplitGatedDeltaNet(
        w,
        heads=Y,
        groups=X,
        head_dim=P,
        value_dim=U,
        eps=c.rms_norm_eps,
        activation=ACTIVATIONS[c.hidden_act],
    )


def gated_attention(w: Weights, c: Qwen35TextConfig) -> GatedAttention:
    """Build an attention layer."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    norms = [RMSNorm(w / name, eps=c.rms_norm_eps, offset=1.0) for name in ("q_norm", "k_norm")]
    rope = c.rope.rotary() if c.rope else None
    return GatedAttention(w, heads=H, kv_heads=G, head_dim=K, rope=rope, norms=(norms[0], norms[1]))


class Qwen35Text(Decoder[Qwen35TextConfig]):
    """The text part of Qwen3.5, 0.8B to 27B, dense."""

    Config = Qwen35TextConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "YX"))
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {r"language_model\.(.*)": r"\1"}  # where the text part was taken out of the whole
    IGNORED = r"(mtp|visual)\..*"  # layers that predict further tokens, and the encoder of images

    def build(self, w: Weights, c: Qwen35TextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps, offset=1.0)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3_next",
    kind="block",
    changed="Dense feed-forward layers; the delta net's inputs in matrices of their own",
    why="small models gain from the delta net too",
    published="27B",
    keys={
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_attention_heads": 24,
        "linear_num_value_heads": 48,
        "num_hidden_layers": 4,
    },
)
