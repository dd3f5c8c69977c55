"""Zamba (Glorioso et al. 2024, arXiv:2405.16712): Mamba 1, and one shared attention block.

    x₀ = embedding
    y = feed-forward(norm(attention(norm(x and x₀ side by side)))) · W_i       in some layers, else 0
    x → x + y → norm → Mamba ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| mixer                       | position | norm    | activation | block                   | context |
|-----------------------------|----------|---------|------------|-------------------------|---------|
| Mamba 1 of 2 heads; MHA in  | none     | RMSNorm | GeGLU      | attention, feed-forward | 4096    |
| 13 of 76 layers, of 1 block |          |         |            | before Mamba            |         |

New in it: one block of attention for the whole model, whose weights are stored once and used in every sixth
layer. Each use has keys and values of its own, and an output matrix of its own, whose result is added to
Mamba's input and not to the stream. The block reads the stream and the token's embedding side by side, 2D
numbers. Mamba's channels are in two heads: each computes Δ, B and C from its own channels alone, where Mamba
1 computes them from all.

The cached path of transformers starts from an empty state where more than one token follows a text; here any
number of tokens continue it. transformers cannot make a model that uses its shared block only once; here one
use is like several.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import HybridState, RecurrentState, Step
from tinystar_np.cache.step import FIRST
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, Activation, softplus
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, not_in_files, require
from tinystar_np.models.facts import Facts
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

MAMBA, HYBRID = "linear_attention", "hybrid"
OLDER = {"mamba": MAMBA}
"""What files written before transformers 5 call a layer of Mamba alone."""


@dataclass(frozen=True)
class ZambaConfig(Config):
    """The keys of a Zamba config.json that change the mathematics; defaults as in transformers.

    ``mamba_expand`` times ``hidden_size`` are Mamba's channels, divided among ``n_mamba_heads``. Without
    ``layers_block_type`` the third layer uses the shared block, and after it each layer i where (i − 3) mod
    ``attn_layer_period`` is ``attn_layer_offset``. Where ``tie_word_embeddings`` is false, transformers
    shares no block either: each use has one of its own.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(3712, letter="D")
    attention_hidden_size: int | None = None
    intermediate_size: int = key(14848, letter="F")
    num_hidden_layers: int = key(76, letter="L")
    layers_block_type: list[str] | None = key(None, aliases=("layer_types",))
    attn_layer_period: int = key(6, least=1)
    attn_layer_offset: int = 4
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(16, letter="G")
    attention_head_dim: int | None = key(None, letter="K", aliases=("head_dim",))
    hidden_act: str = activation_key("gelu")
    hidden_mamba_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    mamba_d_state: int = key(16, letter="N")
    mamba_d_conv: int = key(4, letter="W")
    mamba_expand: int = 2
    mamba_dt_rank: int | str = "auto"
    n_mamba_heads: int = key(2, letter="M")
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    rms_norm_eps: float = key(1e-5, above=0)
    tie_word_embeddings: bool = True
    shares_block: bool = not_in_files(True)

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config from the parsed config.json."""
        config = super().from_dict(raw)
        return replace(config, shares_block=config.tie_word_embeddings)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters: M heads of Mamba, P their width, R the rank of the step, K width of other heads."""
        rank = math.ceil(self.hidden_size / 16) if self.mamba_dt_rank == "auto" else self.mamba_dt_rank
        found = super().sizes | {"R": int(rank)}
        found |= {"P": self.mamba_expand * self.hidden_size // max(self.n_mamba_heads, 1)}
        if "H" in found:
            found |= {"K": self.attention_head_dim or 2 * self.hidden_size // max(found["H"], 1)}
        return found

    @property
    def absent_letters(self) -> str:
        """The letters of the shared block, where no layer uses it."""
        return "" if self.hybrid_layers else "HGKF"

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer."""
        period, offset = max(self.attn_layer_period, 1), self.attn_layer_offset
        after = [HYBRID if i % period == offset else MAMBA for i in range(self.num_hidden_layers - 3)]
        usual = [MAMBA, MAMBA, HYBRID, *after]
        named = usual if self.layers_block_type is None else self.layers_block_type
        return [OLDER.get(kind, kind) for kind in named]

    @property
    def hybrid_layers(self) -> list[int]:
        """The layers that use the shared block before Mamba."""
        return [i for i, kind in enumerate(self.kinds) if kind == HYBRID]

    @property
    def first_uses(self) -> list[int]:
        """The layer that uses the shared block for the first time, whose names its tensors have."""
        return self.hybrid_layers[:1] if self.shares_block else self.hybrid_layers

    @property
    def within(self) -> list[str]:
        """Where in a layer's names those of Mamba are."""
        return [".mamba_decoder" if kind == HYBRID else "" for kind in self.kinds]

    @property
    def home(self) -> dict[int, int]:
        """The layer that used the same block first."""
        return {i: self.first_uses[0] if self.shares_block else i for i in self.hybrid_layers}

    def check(self) -> None:
        """Refuse contradictions."""
        D, L, named = self.hidden_size, self.num_hidden_layers, self.kinds
        require(
            len(named) == L,
            f"layers_block_type names {len(named)} layers, but num_hidden_layers = {L}."
            if self.layers_block_type is not None
            else f"num_hidden_layers = {L}, but without layers_block_type it must be at least 3.",
        )
        wrong = next((i for i, kind in enumerate(named) if kind not in (MAMBA, HYBRID)), None)
        require(
            wrong is None,
            f"layers_block_type[{wrong}] = {shown(named[wrong or 0])} is not known here. "
            f"Known: {MAMBA}, {HYBRID}.",
        )
        require(
            self.mamba_dt_rank == "auto" or isinstance(self.mamba_dt_rank, int),
            f'mamba_dt_rank = {shown(self.mamba_dt_rank)}, but it must be a number or "auto".',
        )
        super().check()
        require(
            self.attention_hidden_size in (None, 0, 2 * D),
            f"attention_hidden_size = {self.attention_hidden_size}, but attention reads twice hidden_size, "
            f"{2 * D} numbers.",
        )
        M, P = self.sizes["M"], self.sizes["P"]
        require(
            self.mamba_expand * D == M * P,
            f"mamba_expand = {self.mamba_expand} times hidden_size = {D} cannot be divided among "
            f"n_mamba_heads = {M}.",
        )

    def _check_heads(self) -> None:
        """Refuse heads that cannot be made: they divide twice the width of the stream."""
        if not self.hybrid_layers:
            return
        D, H, G = self.hidden_size, self.num_attention_heads, self.sizes["G"]
        require(
            H >= 1 and (self.attention_head_dim is not None or 2 * D % H == 0),
            f"twice hidden_size = {D} cannot be divided among num_attention_heads = {H} heads.",
        )
        require(
            G >= 1 and H % G == 0,
            f"num_attention_heads = {H} cannot be divided among num_key_value_heads = {G} groups.",
        )


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # of the shared block, once
    "blocks.{i}.attention_norm.gain":
        ("layers.{i}.shared_transf.input_layernorm.weight", "2D", "first_uses"),
    "blocks.{i}.attention.q.weight":
        ("layers.{i}.shared_transf.self_attn.q_proj.weight", "(HK 2D)ᵀ", "first_uses"),
    "blocks.{i}.attention.k.weight":
        ("layers.{i}.shared_transf.self_attn.k_proj.weight", "(GK 2D)ᵀ", "first_uses"),
    "blocks.{i}.attention.v.weight":
        ("layers.{i}.shared_transf.self_attn.v_proj.weight", "(GK 2D)ᵀ", "first_uses"),
    "blocks.{i}.attention.out.weight":
        ("layers.{i}.shared_transf.self_attn.o_proj.weight", "(D HK)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward_norm.gain":
        ("layers.{i}.shared_transf.pre_ff_layernorm.weight", "D", "first_uses"),
    "blocks.{i}.feed_forward.gate.weight":
        ("layers.{i}.shared_transf.feed_forward.gate_proj.weight", "(F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.up.weight":
        ("layers.{i}.shared_transf.feed_forward.up_proj.weight", "(F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.down.weight":
        ("layers.{i}.shared_transf.feed_forward.down_proj.weight", "(D F)ᵀ", "first_uses"),
    # of each use
    "blocks.{i}.shared_out.weight": ("layers.{i}.linear.weight", "(D D)ᵀ", "hybrid_layers"),
    # of Mamba, in every layer
    "blocks.{i}.mixer_norm.gain": ("layers.{i}{within[i]}.input_layernorm.weight", "D"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}{within[i]}.mamba.in_proj.weight", "(MP2 D)ᵀ"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}{within[i]}.mamba.in_proj.bias", "MP2", "mamba_proj_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}{within[i]}.mamba.conv1d.weight", "MP 1 W"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}{within[i]}.mamba.conv1d.bias", "MP", "mamba_conv_bias"),
    "blocks.{i}.mixer.heads.{m}.selection.weight":
        ("layers.{i}{within[i]}.mamba.x_proj_weight", "M (R+2N P)ᵀ"),
    "blocks.{i}.mixer.heads.{m}.time_step.weight":
        ("layers.{i}{within[i]}.mamba.dt_proj_weight", "M (P R)ᵀ"),
    "blocks.{i}.mixer.heads.{m}.time_step.bias": ("layers.{i}{within[i]}.mamba.dt_proj_bias", "M P"),
    "blocks.{i}.mixer.A_log": ("layers.{i}{within[i]}.mamba.A_log", "M P N"),
    "blocks.{i}.mixer.heads.{m}.D": ("layers.{i}{within[i]}.mamba.D", "M P"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}{within[i]}.mamba.out_proj.weight", "(D MP)ᵀ"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}{within[i]}.mamba.out_proj.bias", "D", "mamba_proj_bias"),
    "final_norm.gain": ("final_layernorm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Mamba; in some layers the shared block reads the stream before it and adds to Mamba's input."""

    def __init__(self, w: Weights, c: ZambaConfig, i: int):
        own = w / f"blocks.{i}"
        self.uses_shared = i in c.hybrid_layers
        if self.uses_shared:
            self.reads = (FIRST,)
            H, G, K = (c.sizes[letter] for letter in "HGK")
            shared = w / f"blocks.{c.home[i]}"
            self.attention_norm = RMSNorm(shared / "attention_norm", eps=c.rms_norm_eps)
            self.attention = Attention(
                shared / "attention", heads=H, kv_heads=G, head_dim=K, scale=(K / 2) ** -0.5
            )
            self.feed_forward_norm = RMSNorm(shared / "feed_forward_norm", eps=c.rms_norm_eps)
            self.feed_forward = GatedFeedForward(shared / "feed_forward", ACTIVATIONS[c.hidden_act])
            self.shared_out = Linear(own / "shared_out")
        self.mixer_norm = RMSNorm(own / "mixer_norm", eps=c.rms_norm_eps)
        activation = ACTIVATIONS[c.hidden_mamba_act]
        self.mixer = Mamba1ByHeads(own / "mixer", heads=c.n_mamba_heads, activation=activation)

    def new_state(self, batch_size: int, capacity: int) -> HybridState | RecurrentState:
        """Make the empty states of attention and Mamba, or of Mamba alone."""
        recurrent = self.mixer.new_state(batch_size, capacity)
        if not self.uses_shared:
            return recurrent
        return HybridState(self.attention.new_state(batch_size, capacity), recurrent)

    def __call__(self, x: NDArray, step: Step, state: HybridState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        keys_and_values: Any = None  # each mixer made its own
        recurrent: Any = state
        if isinstance(state, HybridState):
            keys_and_values, recurrent = state.states
        inputs = x
        if self.uses_shared:
            both = np.concatenate([x, step.given(FIRST)], axis=-1)  # (B, T, 2D)
            normed = tap("attention_norm", self.attention_norm(both))
            y = self.attention(normed, step.for_all_tokens(), keys_and_values)  # Mamba reads all of it
            y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(y)))
            inputs = x + tap("shared_out", self.shared_out(y))
        normed = tap("mixer_norm", self.mixer_norm(inputs))
        return tap("residual", step.wanted(x) + self.mixer(normed, step, recurrent))


class Mamba1ByHeads(Mamba1):
    """Mamba 1 whose channels are in M heads of P; each head makes Δ, B and C from its own channels.

    w  as in Mamba 1, but the channels of x and z in turns in the product of ``in``; ``A_log`` (M, P, N); for
       each of ``heads.0``, ``heads.1``, … a ``selection`` (P, R + 2·N), a ``time_step`` (R, P) and ``D`` (P,)
    """

    def __init__(self, w: Weights, *, heads: int, activation: Activation):
        self.heads = heads
        super().__init__(w, activation=activation)

    def build_scan(self, w: Weights) -> None:
        """Build what the scan needs: of each head what makes Δ, B and C; A (N, F) and D (F,)."""
        own = w.heads(self.heads, self.heads).heads  # where ranks share the heads, some
        each, self.heads = [w / f"heads.{m}" for m in own], len(own)
        self.selections = [Linear(head / "selection") for head in each]
        self.time_steps = [Linear(head / "time_step") for head in each]
        A_log = np.concatenate(w["A_log"], axis=0)  # (F, N)
        self.A = -np.exp(np.ascontiguousarray(A_log.T))
        self.D = np.concatenate([head["D"] for head in each])

    def halves(self, projected: NDArray) -> tuple[NDArray, NDArray]:
        """Take x and z, (B, T, F) each, out of their product (B, T, 2F), where they come in turns."""
        return projected[..., ::2], tap("mixer.z", projected[..., 1::2])

    def selected(self, x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Let the tokens (B, T, F) decide, head by head: Δ (B, T, F), B and C (B, T, M, N)."""
        N = len(self.A)
        parts = np.split(x, self.heads, axis=-1)  # (B, T, P) each
        each = [layer(part) for layer, part in zip(self.selections, parts, strict=True)]
        selected = tap("mixer.selection", np.stack(each, axis=2))  # (B, T, M, R + 2N)
        narrow, B, C = selected[..., : -2 * N], selected[..., -2 * N : -N], selected[..., -N:]
        B, C = tap("mixer.B", B), tap("mixer.C", C)
        steps = [layer(narrow[:, :, m]) for m, layer in enumerate(self.time_steps)]
        dt = tap("mixer.time_step", fast.activate(np.concatenate(steps, axis=-1), softplus))
        return dt, B, C


class Zamba(Decoder[ZambaConfig]):
    """Zamba 7B."""

    Config = ZambaConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "M"))
    PREFIX = "model."
    IGNORED = r"layers\.\d+\.shared_transf\..*"  # copies of the shared block at its later uses

    def build(self, w: Weights, c: ZambaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w, c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up, and hand them to the layers that read them again: ids (B, T) → (B, T, D)."""
        x = super().embed(ids, step)
        step.give(FIRST, x)
        return x


FACTS = Facts(
    grew_from="mamba",
    kind="attention",
    changed="One shared block of attention and feed-forward, used at many depths before Mamba",
    why="attention in every sixth layer, for the weights of one block",
    published="7B",
    keys={"num_hidden_layers": 76},
)
