"""Bamba (IBM, Princeton, CMU, UIUC 2024): Mamba 2, with attention in three of 32 layers.

    x → norm → Mamba 2 or attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| mixer                   | position          | norm    | activation | block      | context      |
|-------------------------|-------------------|---------|------------|------------|--------------|
| Mamba 2; GQA in 3 of 32 | RoPE on half of   | RMSNorm | SwiGLU     | sequential | 4096 or 8192 |
| layers                  | each head         |         |            |            |              |

New in it, beside Mamba 2 (mamba2.py): every layer has a feed-forward layer, as in Llama, and three of 32 have
attention instead of the recurrence, after Waleffe et al. 2024, arXiv:2406.07887: a state of fixed size cannot
copy single tokens from far back, a few layers of attention can. Attention rotates half of each head. The
makers published data and code with it; Granite 4 (granitemoehybrid.py), which has no positions, followed from
it.
"""

import math
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Mixer, RMSNorm
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, check_time_step_limit, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class BambaConfig(Config):
    """The keys of a Bamba config.json that change the mathematics; defaults as in transformers.

    Half of each head is rotated, whatever a top-level ``partial_rotary_factor`` says: transformers' class
    reads it in ``rope_parameters`` alone. ``mamba_chunk_size`` is ignored: it changes how the scan is
    computed, not its result.
    """

    vocab_size: int = key(128000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(262144, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    attn_layer_indices: list[int] | None = None
    mamba_n_heads: int = 128
    mamba_d_head: int | str = "auto"
    mamba_n_groups: int = 1
    mamba_d_state: int = 256
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_conv_bias: bool | None = True
    mamba_proj_bias: bool | None = False
    time_step_limit: list[float] | tuple[float, ...] | None = (0.0, math.inf)
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; for Mamba M heads, P head width, U groups, N state size, W convolution width."""
        if not self.mamba_layers:
            return super().sizes
        M, P = self.mamba_n_heads, self.mamba_d_head
        return super().sizes | {
            "M": M,
            "P": P if isinstance(P, int) else self.mamba_expand * self.hidden_size // max(M, 1),
            "U": self.mamba_n_groups,
            "N": self.mamba_d_state,
            "W": self.mamba_d_conv,
        }

    @property
    def absent_letters(self) -> str:
        """The letters of attention, where there is none."""
        return "" if self.attention_layers else "HGK"

    @property
    def mamba_layers(self) -> list[int]:
        """The layers whose mixer is Mamba 2: all, unless the file says otherwise."""
        return [i for i in range(self.num_hidden_layers) if i not in (self.attn_layer_indices or ())]

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is attention."""
        return [i for i in range(self.num_hidden_layers) if i in (self.attn_layer_indices or ())]

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where no layer attends."""
        if not self.attention_layers:
            return None
        keys = {**vars(self), "partial_rotary_factor": 0.5}
        return RopeParameters.read(keys, head_dim=self.sizes["K"], partial=True)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest Δ."""
        least, largest = (0.0, math.inf) if self.time_step_limit is None else self.time_step_limit
        return least, largest

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        if not self.mamba_layers:
            return
        M, P, U, d_head = *(self.sizes[letter] for letter in "MPU"), self.mamba_d_head
        require(
            isinstance(d_head, int) or d_head == "auto",
            f"mamba_d_head = {shown(d_head)}, but it must be a whole number or 'auto'.",
        )
        require(
            self.mamba_expand * self.hidden_size == M * P,
            f"mamba_n_heads = {M} heads of mamba_d_head = {d_head} do not make "
            f"mamba_expand = {self.mamba_expand} times hidden_size = {self.hidden_size}.",
        )
        require(M % U == 0, f"mamba_n_heads = {M} cannot be divided among mamba_n_groups = {U} groups.")
        if self.time_step_limit is not None:
            check_time_step_limit(self.time_step_limit)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.q.bias":
        ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias":
        ("layers.{i}.self_attn.o_proj.bias", "D", "attention_layers and attention_bias"),
    # in layers with Mamba
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "mamba_layers"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}.mamba.in_proj.weight", "(2MP+2UN+M D)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.in.bias":
        ("layers.{i}.mamba.in_proj.bias", "2MP+2UN+M", "mamba_layers and mamba_proj_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mamba.conv1d.weight", "MP+2UN 1 W", "mamba_layers"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}.mamba.conv1d.bias", "MP+2UN", "mamba_layers and mamba_conv_bias"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}.mamba.dt_bias", "M", "mamba_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.mamba.A_log", "M", "mamba_layers"),
    "blocks.{i}.mixer.D": ("layers.{i}.mamba.D", "M", "mamba_layers"),
    "blocks.{i}.mixer.gated_norm.gain": ("layers.{i}.mamba.norm.weight", "MP", "mamba_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.mamba.out_proj.weight", "(D MP)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.mamba.out_proj.bias", "D", "mamba_layers and mamba_proj_bias"),
    # in every layer
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.pre_ff_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.feed_forward.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias": ("layers.{i}.feed_forward.gate_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.feed_forward.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias": ("layers.{i}.feed_forward.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.feed_forward.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias": ("layers.{i}.feed_forward.down_proj.bias", "D", "mlp_bias"),
    "final_norm.gain": ("final_layernorm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Mamba or attention, then feed-forward: each reads a normed copy of the stream and adds its result."""

    def __init__(self, w: Weights, c: BambaConfig, i: int):
        self.mixer: Mixer
        if i in c.mamba_layers:
            self.name = "mixer"
            self.mixer = mamba(w / "mixer", c)
        else:
            self.name = "attention"
            self.mixer = attention(w / "attention", c)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.rms_norm_eps)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def mamba(w: Weights, c: BambaConfig) -> Mamba2:
    """Build a Mamba 2 mixer."""
    M, P, U, N = (c.sizes[letter] for letter in "MPUN")
    return Mamba2(
        w, heads=M, head_dim=P, groups=U, state_size=N, eps=c.rms_norm_eps,
        activation=ACTIVATIONS[c.hidden_act], time_step_limit=c.limits,
    )  # fmt: skip


def attention(w: Weights, c: BambaConfig) -> Attention:
    """Build an attention layer."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    return Attention(w, heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary() if c.rope else None)


class Bamba(Decoder[BambaConfig]):
    """Bamba-9B, v1 and v2."""

    Config = BambaConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "MU"))
    PREFIX = "model."

    def build(self, w: Weights, c: BambaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mamba2",
    kind="attention",
    changed="Feed-forward layers, and attention in three of 32 layers",
    why="exact recall of earlier tokens, with a tenth of the cache",
    published="9B",
    keys={"num_hidden_layers": 32, "attn_layer_indices": [9, 18, 27], "mamba_d_state": 128},
)
