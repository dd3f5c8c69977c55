"""Granite 4 (IBM 2025): seven to nine Mamba layers for each layer of attention, with or without experts.

    x₀ = e · embedding
    x → norm → Mamba 2 or attention → · r ──+ x → norm → feed-forward → · r ──+ x      (× L)
    logits = norm(x) · W / l                       feed-forward = shared + experts

| mixer        | position | norm    | feed-forward                          | block      | context         |
|--------------|----------|---------|---------------------------------------|------------|-----------------|
| Mamba 2, GQA | none     | RMSNorm | SwiGLU; + 6 of 64 or 10 of 72 experts | sequential | 32768 or 131072 |

New in it: most layers are Mamba 2, with a state of fixed size instead of a cache that grows; the few layers
of attention can look up single tokens far back. Lieber et al. 2024 (Jamba), arXiv:2403.19887; Waleffe et al.
2024, arXiv:2406.07887. The order of the tokens comes from the recurrence: attention gets no positions, and so
no table or training limits their number. The mixer is Mamba 2's, Dao & Gu 2024, arXiv:2405.21060
(layers/mamba2.py).

Every layer has a feed-forward layer for all tokens; in H-Tiny and H-Small there are experts beside it, whose
results are added. e, r, l and the scale of the attention scores are Granite's multipliers, after Yang et al.
2022, arXiv:2203.03466. With attention in every layer, rotary positions and no experts it is Granite 4 without
the "H".
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, Mixer, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, check_time_step_limit, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

MAMBA = ("mamba", "linear_attention")
ATTENTION = ("attention", "full_attention")
"""What ``layer_types`` calls the two kinds, in the hub's files and in those that transformers 5 writes."""


@dataclass(frozen=True)
class GraniteMoeHybridConfig(Config):
    """The keys of a Granite 4 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of an expert. ``mamba_chunk_size`` is ignored: it changes how the scan
    is computed, not its result.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    position_embedding_type: str | None = None
    attention_bias: bool = False
    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = key(1.0, not_zero="but the logits are divided by it")
    num_local_experts: int = key(8, letter="E")
    num_experts_per_tok: int | None = key(2, chosen_of="E")
    shared_intermediate_size: int = key(1024, letter="J")
    layer_types: list[str] | None = key(None, aliases=("layers_block_type",))
    mamba_n_heads: int = 128
    mamba_d_head: int | str = "auto"
    mamba_n_groups: int = 1
    mamba_d_state: int = 256
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_conv_bias: bool | None = True
    mamba_proj_bias: bool | None = False
    time_step_limit: list[float] | tuple[float, ...] = (0.0, math.inf)
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {"normalization_function": ("rmsnorm", None)}

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
        """The letters of experts, and of attention, where there are none."""
        return ("" if self.num_local_experts else "EF") + ("" if self.attention_layers else "HGK")

    @property
    def mamba_layers(self) -> list[int]:
        """The layers whose mixer is Mamba 2: all, unless the file says otherwise."""
        return self._layers(MAMBA)

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is attention."""
        return self._layers(ATTENTION)

    def _layers(self, kind: tuple[str, ...]) -> list[int]:
        kinds = layer_kinds(self.layer_types, MAMBA[:1] * self.num_hidden_layers, (*MAMBA, *ATTENTION))
        return [i for i, name in enumerate(kinds) if name in kind]

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where attention has no positions."""
        if self.position_embedding_type != "rope" or not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        kind = self.position_embedding_type
        require(
            kind in (None, "nope", "rope") or not self.attention_layers,
            f"position_embedding_type = {shown(kind)} is not known here. Known: nope, rope.",
        )
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
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.shared_mlp.input_linear.weight[:J]", "(2J D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.shared_mlp.input_linear.weight[J:]", "(2J D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.shared_mlp.output_linear.weight", "(D J)ᵀ"),
    # in models with experts
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.block_sparse_moe.router.layer.weight", "(E D)ᵀ", "num_local_experts"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.block_sparse_moe.input_linear.weight[:F]", "E (2F D)ᵀ", "num_local_experts"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.block_sparse_moe.input_linear.weight[F:]", "E (2F D)ᵀ", "num_local_experts"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.output_linear.weight", "E (D F)ᵀ", "num_local_experts"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Mamba or attention, then feed-forward: each reads a normed copy and adds r times its result."""

    def __init__(self, w: Weights, c: GraniteMoeHybridConfig, i: int):
        self.mixer: Mixer
        if i in c.mamba_layers:
            self.name = "mixer"
            self.mixer = mamba(w / "mixer", c)
        else:
            self.name = "attention"
            self.mixer = attention(w / "attention", c)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.rms_norm_eps)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c)
        self.residual_multiplier = np.float32(c.residual_multiplier)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        r = self.residual_multiplier
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        y = tap(f"{self.name}_scaled", r * self.mixer(normed, step, state))
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + tap("feed_forward_scaled", r * self.feed_forward(normed)))


def mamba(w: Weights, c: GraniteMoeHybridConfig) -> Mamba2:
    """Build a Mamba 2 mixer."""
    M, P, U, N = (c.sizes[letter] for letter in "MPUN")
    least, largest = c.time_step_limit
    return Mamba2(
        w, heads=M, head_dim=P, groups=U, state_size=N, eps=c.rms_norm_eps,
        activation=ACTIVATIONS[c.hidden_act], time_step_limit=(least, largest),
    )  # fmt: skip


def attention(w: Weights, c: GraniteMoeHybridConfig) -> Attention:
    """Build an attention layer, with the config's scale, and with rotary embedding or without."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    rope = c.rope.rotary() if c.rope else None
    return Attention(w, heads=H, kv_heads=G, head_dim=K, scale=c.attention_multiplier, rope=rope)


def feed_forward(w: Weights, c: GraniteMoeHybridConfig) -> Layer:
    """Build a feed-forward layer for every token; in some models with experts, whose results are added."""
    activation = ACTIVATIONS[c.hidden_act]
    shared = GatedFeedForward(w, activation)
    if not c.num_local_experts:
        return shared
    experts = gated_experts(w / "experts", c.num_local_experts, activation)
    routed = Experts(w, experts, per_token=c.num_experts_per_tok or 0, routing=top_k_softmax)
    return ExpertsAndShared(routed, shared)


class GraniteMoeHybrid(Decoder[GraniteMoeHybridConfig]):
    """Granite 4.0: H-350M, H-1B, H-Micro, H-Tiny, H-Small; and 350M, 1B, Micro, which are attention alone."""

    Config = GraniteMoeHybridConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "MU"), features=("V", "J"))
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # transformers 5's names in memory, which save_pretrained changes back
        r"(.*\.block_sparse_moe)\.router\.weight": r"\1.router.layer.weight",
        r"(.*\.block_sparse_moe)\.experts\.gate_up_proj": r"\1.input_linear.weight",
        r"(.*\.block_sparse_moe)\.experts\.down_proj": r"\1.output_linear.weight",
    }

    def build(self, w: Weights, c: GraniteMoeHybridConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", tokens * np.float32(self.config.embedding_multiplier))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and divide: (B, T, D) → (B, T, V)."""
        return self.head(x) / np.float32(self.config.logits_scaling)


FACTS = Facts(
    grew_from="granitemoe",
    kind="recurrence",
    changed="Mamba 2 in nine of ten layers; no positions",
    why="one layer in ten is attention, the others need no memory per token",
    published="H-Tiny",
    keys={
        "hidden_size": 1536,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "mamba_n_heads": 48,
        "mamba_d_head": 64,
        "mamba_d_state": 128,
        "num_hidden_layers": 10,
        "layer_types": ["mamba"] * 9 + ["attention"],
    },
)
