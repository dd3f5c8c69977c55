"""Jamba (Lieber et al. 2024, arXiv:2403.19887): seven layers of Mamba to one of attention, and experts.

    x → norm → Mamba or attention ──+ x → norm → feed-forward or experts ──+ x      (× L)
    logits = norm(x) · W                        in Mamba: δ, B, C = norm(δ), norm(B), norm(C)

| mixer                 | position | norm    | feed-forward               | block      | context |
|-----------------------|----------|---------|----------------------------|------------|---------|
| Mamba 1; GQA in 1 of  | none     | RMSNorm | SwiGLU; in every second    | sequential | 262144  |
| 8 layers              |          |         | layer 2 of 16 experts      |            |         |

New in it: the first large model that mixes Mamba and attention. Mamba alone did badly where a format or an
example in the text has to be copied; one layer of attention in eight mended that, for an eighth of the cache.
Attention needs no positions, since the Mamba layers before it carry the order. Experts hold most of the 52
billion weights, of which a token uses 12. Norms of δ, B and C keep training stable at that size.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, Mixer, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class JambaConfig(Config):
    """The keys of a Jamba config.json that change the mathematics; defaults as in transformers.

    Layer i has attention where i mod ``attn_layer_period`` is ``attn_layer_offset``, and experts by the same
    rule with ``expert_layer_period`` and ``expert_layer_offset``. With one expert all layers are dense.
    """

    vocab_size: int = key(65536, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(262144, is_trained_length=True)
    rms_norm_eps: float = key(1e-6, above=0)
    num_experts: int = key(16, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(2, chosen_of="E")
    expert_layer_period: int = key(2, least=1)
    expert_layer_offset: int = key(1, least=0)
    attn_layer_period: int = key(8, least=1)
    attn_layer_offset: int = key(4, least=0)
    mamba_d_state: int = key(16, letter="N")
    mamba_d_conv: int = key(4, letter="W")
    mamba_expand: int = 2
    mamba_dt_rank: int | str = "auto"
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    tie_word_embeddings: bool = False

    # Keys of the first files that transformers does not read.
    REFUSED: ClassVar = {"mamba_inner_layernorms": (True, None), "sliding_window": (None,)}

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; for Mamba C channels and the rank R of the step."""
        rank = math.ceil(self.hidden_size / 16) if self.mamba_dt_rank == "auto" else self.mamba_dt_rank
        found = super().sizes | {"C": self.mamba_expand * self.hidden_size, "R": int(rank)}
        return {letter: size for letter, size in found.items() if letter not in self.absent_letters}

    @property
    def absent_letters(self) -> str:
        """The letters of layers that there are none of."""
        mixers = ("" if self.attention_layers else "HGK") + ("" if self.mamba_layers else "CRNW")
        return mixers + ("" if self.expert_layers else "E")

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is attention."""
        period, offset = max(self.attn_layer_period, 1), self.attn_layer_offset
        return [i for i in range(self.num_hidden_layers) if i % period == offset]

    @property
    def mamba_layers(self) -> list[int]:
        """The layers whose mixer is Mamba."""
        return [i for i in range(self.num_hidden_layers) if i not in self.attention_layers]

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts."""
        period, offset = max(self.expert_layer_period, 1), self.expert_layer_offset
        layers = range(self.num_hidden_layers) if self.num_experts > 1 else ()
        return [i for i in layers if i % period == offset]

    def check(self) -> None:
        """Refuse contradictions."""
        require(
            self.mamba_dt_rank == "auto" or isinstance(self.mamba_dt_rank, int),
            f'mamba_dt_rank = {shown(self.mamba_dt_rank)}, but it must be a number or "auto".',
        )
        super().check()
        require(self.num_experts >= 1, f"num_experts = {self.num_experts} must be at least 1.")
        for kind in ("attn", "expert"):
            period, offset = getattr(self, f"{kind}_layer_period"), getattr(self, f"{kind}_layer_offset")
            require(
                offset < period,
                f"{kind}_layer_offset = {offset} must be below {kind}_layer_period = {period}.",
            )


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    # in layers with Mamba
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "mamba_layers"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}.mamba.in_proj.weight", "(2C D)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}.mamba.in_proj.bias", "2C", "mamba_layers and mamba_proj_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mamba.conv1d.weight", "C 1 W", "mamba_layers"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}.mamba.conv1d.bias", "C", "mamba_layers and mamba_conv_bias"),
    "blocks.{i}.mixer.selection.weight": ("layers.{i}.mamba.x_proj.weight", "(R+2N C)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.time_step_norm.gain": ("layers.{i}.mamba.dt_layernorm.weight", "R", "mamba_layers"),
    "blocks.{i}.mixer.B_norm.gain": ("layers.{i}.mamba.b_layernorm.weight", "N", "mamba_layers"),
    "blocks.{i}.mixer.C_norm.gain": ("layers.{i}.mamba.c_layernorm.weight", "N", "mamba_layers"),
    "blocks.{i}.mixer.time_step.weight": ("layers.{i}.mamba.dt_proj.weight", "(C R)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.time_step.bias": ("layers.{i}.mamba.dt_proj.bias", "C", "mamba_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.mamba.A_log", "C N", "mamba_layers"),
    "blocks.{i}.mixer.D": ("layers.{i}.mamba.D", "C", "mamba_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.mamba.out_proj.weight", "(D C)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.mamba.out_proj.bias", "D", "mamba_layers and mamba_proj_bias"),
    # in every layer
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.pre_ff_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.feed_forward.router.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.feed_forward.experts.{e}.gate_proj.weight", "(F D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.feed_forward.experts.{e}.up_proj.weight", "(F D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.{e}.down_proj.weight", "(D F)ᵀ", "expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight":
        ("layers.{i}.feed_forward.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight":
        ("layers.{i}.feed_forward.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight":
        ("layers.{i}.feed_forward.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "final_norm.gain": ("final_layernorm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # transformers 5's names in memory, which save_pretrained changes back
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj[:F]", "E (2F D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj[F:]", "E (2F D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.down_proj", "E (D F)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """Mamba or attention, then feed-forward or experts: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: JambaConfig, i: int):
        self.mixer: Mixer
        if i in c.mamba_layers:
            self.name = "mixer"
            self.mixer = mamba(w / "mixer", c)
        else:
            H, G, K = (c.sizes[letter] for letter in "HGK")
            self.name = "attention"
            self.mixer = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.rms_norm_eps)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def mamba(w: Weights, c: JambaConfig) -> Mamba1:
    """Build a Mamba mixer with its three norms."""
    of_step, of_B, of_C = (
        RMSNorm(w / name, eps=c.rms_norm_eps) for name in ("time_step_norm", "B_norm", "C_norm")
    )
    return Mamba1(w, activation=ACTIVATIONS[c.hidden_act], norms=(of_step, of_B, of_C))


def feed_forward(w: Weights, c: JambaConfig, i: int) -> Layer:
    """Build layer i's experts, or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    experts = gated_experts(w / "experts", c.num_experts, activation)
    return Experts(w, experts, per_token=c.num_experts_per_tok, routing=softmax_top_k)


class Jamba(Decoder[JambaConfig]):
    """Jamba v0.1, Jamba 1.5 and 1.6 Mini and Large, Jamba Reasoning 3B."""

    Config = JambaConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "C"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: JambaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mamba",
    kind="attention",
    changed="Attention in one of eight layers, experts in every second, norms of δ, B and C",
    why="attention copies what Mamba forgets, for an eighth of the cache",
    published="v0.1",
    keys={"num_hidden_layers": 8},
)
