"""Zamba 2 (Glorioso et al. 2024, arXiv:2411.15242): Mamba 2, and one or two shared attention blocks.

    x₀ = embedding
    y = feed-forward(norm(attention(norm(x and x₀ side by side)))) · W_i       in some layers, else 0
    x → x + y → norm → Mamba 2 ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| mixer                       | position     | norm    | activation | block                   | context |
|-----------------------------|--------------|---------|------------|-------------------------|---------|
| Mamba 2; MHA in 9 of 54     | none or RoPE | RMSNorm | GeGLU      | attention, feed-forward | 4096    |
| layers, of 1 or 2 blocks    |              |         |            | before Mamba            |         |

New in it, beside Zamba (zamba.py; arXiv:2405.16712): Mamba 2 instead of Mamba 1, and two blocks of
attention that take turns, where Zamba has one. A shared block has the same weights at every depth except
for an adapter, a product of two narrow matrices that is added to its first matrices (LoRA, Hu et al. 2021,
arXiv:2106.09685). So depth costs few weights, while each use of a block has keys and values of its own. Its
attention reads the stream and the token's embedding side by side, 2D numbers; a matrix of the layer adds its
result to Mamba's input alone, and not to the stream.

The makers' kernels do not limit Δ. transformers keeps it at ``time_step_min`` or above when it reads a text,
and does not for single tokens; here it has no limit.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import HybridState, RecurrentState, Step
from tinystar_np.cache.step import FIRST
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, Activation
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm, linear_each
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, not_in_files, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

MAMBA, HYBRID = "linear_attention", "hybrid"
OLDER = {"mamba": MAMBA}
"""What files written before transformers 5 call a layer of Mamba alone."""


@dataclass(frozen=True)
class Zamba2Config(Config):
    """The keys of a Zamba 2 config.json that change the mathematics; defaults as in transformers.

    ``mamba_expand`` times ``hidden_size`` are Mamba's channels, divided among ``n_mamba_heads``; the heads of
    attention divide twice ``hidden_size``. Convolutions have a bias whatever ``use_conv_bias`` says. Where
    ``tie_word_embeddings`` is false, transformers shares no block either: each use has one of its own.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int | None = key(None, letter="F")
    num_hidden_layers: int = key(54, letter="L")
    layers_block_type: list[str] | None = key(None, aliases=("layer_types",))
    num_mem_blocks: int = key(1, least=1)
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    hidden_act: str = activation_key("gelu")
    add_bias_linear: bool = False
    use_shared_attention_adapter: bool = False
    adapter_rank: int = key(128, letter="R")
    use_mem_rope: bool = False
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    mamba_d_state: int = key(64, letter="N")
    mamba_d_conv: int = key(4, letter="W")
    mamba_expand: int = 2
    mamba_ngroups: int = key(1, letter="U")
    n_mamba_heads: int = key(8, letter="M")
    rms_norm_eps: float = key(1e-5, above=0)
    tie_word_embeddings: bool = True
    shares_blocks: bool = not_in_files(True)

    # The makers' code rescales rotations then; transformers says so and does not.
    REFUSED: ClassVar = {"use_long_context": (False, None)}

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config from the parsed config.json."""
        config = super().from_dict(raw)
        return replace(config, shares_blocks=config.tie_word_embeddings)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters: K width of a head of attention, M heads of Mamba, P their width, U groups."""
        found = super().sizes
        heads, mamba_heads = max(self.num_attention_heads, 1), max(self.n_mamba_heads, 1)
        found |= {"P": self.mamba_expand * self.hidden_size // mamba_heads}
        if "H" in found:
            found |= {"K": 2 * self.hidden_size // heads}
        return found

    @property
    def absent_letters(self) -> str:
        """The letters of the shared blocks, where no layer uses any."""
        return "" if self.hybrid_layers else "HGKFR"

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer; those of the published 2.7B, unless the file says otherwise."""
        periods = ((5, 1), *[(5, 1)] * 6, (4, 1), (3, 1), (2, 0))
        usual = [MAMBA] + [kind for m, h in periods for kind in [MAMBA] * m + [HYBRID] * h]
        named = usual if self.layers_block_type is None else self.layers_block_type
        return [OLDER.get(kind, kind) for kind in named]

    @property
    def hybrid_layers(self) -> list[int]:
        """The layers that use a shared block before Mamba."""
        return [i for i, kind in enumerate(self.kinds) if kind == HYBRID]

    @property
    def plain_layers(self) -> list[int]:
        """The layers of Mamba alone."""
        return [i for i, kind in enumerate(self.kinds) if kind != HYBRID]

    @property
    def first_uses(self) -> list[int]:
        """The layers that use a shared block for the first time, whose names its tensors have."""
        return self.hybrid_layers[: self.num_mem_blocks] if self.shares_blocks else self.hybrid_layers

    @property
    def use(self) -> dict[int, int]:
        """The number of each use of a shared block, by its layer."""
        return {layer: use for use, layer in enumerate(self.hybrid_layers)}

    @property
    def within(self) -> list[str]:
        """What a layer's names of tensors have before those of Mamba."""
        return [".mamba_decoder" if kind == HYBRID else "" for kind in self.kinds]

    @property
    def home(self) -> dict[int, int]:
        """The layer that used the same block first."""
        first = self.first_uses
        return {layer: first[use % len(first)] for layer, use in self.use.items()}

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where attention has no positions."""
        if not self.use_mem_rope or not self.hybrid_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        L, named = self.num_hidden_layers, self.kinds
        require(len(named) == L, f"layers_block_type names {len(named)} layers, but num_hidden_layers = {L}.")
        wrong = next((i for i, kind in enumerate(named) if kind not in (MAMBA, HYBRID)), None)
        require(
            wrong is None,
            f"layers_block_type[{wrong}] = {shown(named[wrong or 0])} is not known here. "
            f"Known: {MAMBA}, {HYBRID}.",
        )
        super().check()
        M, P, U = (self.sizes[letter] for letter in "MPU")
        require(
            self.mamba_expand * self.hidden_size == M * P,
            f"mamba_expand = {self.mamba_expand} times hidden_size = {self.hidden_size} cannot be divided "
            f"among n_mamba_heads = {M}.",
        )
        require(M % U == 0, f"n_mamba_heads = {M} cannot be divided among mamba_ngroups = {U} groups.")

    def _check_heads(self) -> None:
        """Refuse heads that cannot be made: they divide twice the width of the stream."""
        if not self.hybrid_layers:
            return
        D, H, G = self.hidden_size, self.num_attention_heads, self.sizes["G"]
        require(
            H >= 1 and 2 * D % H == 0,
            f"twice hidden_size = {D} cannot be divided among num_attention_heads = {H} heads.",
        )
        require(
            G >= 1 and H % G == 0,
            f"num_attention_heads = {H} cannot be divided among num_key_value_heads = {G} groups.",
        )
        require(
            G == H or not self.use_shared_attention_adapter,
            f"num_key_value_heads = {G}, but with use_shared_attention_adapter it must be {H}, as there are "
            "heads.",
        )


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # of each shared block, once
    "blocks.{i}.attention_norm.gain":
        ("layers.{i}.shared_transformer.input_layernorm.weight", "2D", "first_uses"),
    "blocks.{i}.attention.q.weight":
        ("layers.{i}.shared_transformer.self_attn.q_proj.weight", "(HK 2D)ᵀ", "first_uses"),
    "blocks.{i}.attention.k.weight":
        ("layers.{i}.shared_transformer.self_attn.k_proj.weight", "(GK 2D)ᵀ", "first_uses"),
    "blocks.{i}.attention.v.weight":
        ("layers.{i}.shared_transformer.self_attn.v_proj.weight", "(GK 2D)ᵀ", "first_uses"),
    "blocks.{i}.attention.out.weight":
        ("layers.{i}.shared_transformer.self_attn.o_proj.weight", "(D HK)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward_norm.gain":
        ("layers.{i}.shared_transformer.pre_ff_layernorm.weight", "D", "first_uses"),
    "blocks.{i}.feed_forward.gate.weight":
        ("layers.{i}.shared_transformer.feed_forward.gate_up_proj.weight[:F]", "(2F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.gate.bias":
        (
            "layers.{i}.shared_transformer.feed_forward.gate_up_proj.bias[:F]",
            "2F",
            "first_uses and add_bias_linear",
        ),
    "blocks.{i}.feed_forward.up.weight":
        ("layers.{i}.shared_transformer.feed_forward.gate_up_proj.weight[F:]", "(2F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.up.bias":
        (
            "layers.{i}.shared_transformer.feed_forward.gate_up_proj.bias[F:]",
            "2F",
            "first_uses and add_bias_linear",
        ),
    "blocks.{i}.feed_forward.down.weight":
        ("layers.{i}.shared_transformer.feed_forward.down_proj.weight", "(D F)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.down.bias":
        ("layers.{i}.shared_transformer.feed_forward.down_proj.bias", "D", "first_uses and add_bias_linear"),
    # of each use
    "blocks.{i}.attention.q_adapter.down.weight": (
        "layers.{home[i]}.shared_transformer.self_attn.linear_q_adapter_list.{use[i]}.0.weight",
        "(R 2D)ᵀ",
        "hybrid_layers and use_shared_attention_adapter",
    ),
    "blocks.{i}.attention.q_adapter.up.weight": (
        "layers.{home[i]}.shared_transformer.self_attn.linear_q_adapter_list.{use[i]}.1.weight",
        "(HK R)ᵀ",
        "hybrid_layers and use_shared_attention_adapter",
    ),
    "blocks.{i}.attention.k_adapter.down.weight": (
        "layers.{home[i]}.shared_transformer.self_attn.linear_k_adapter_list.{use[i]}.0.weight",
        "(R 2D)ᵀ",
        "hybrid_layers and use_shared_attention_adapter",
    ),
    "blocks.{i}.attention.k_adapter.up.weight": (
        "layers.{home[i]}.shared_transformer.self_attn.linear_k_adapter_list.{use[i]}.1.weight",
        "(GK R)ᵀ",
        "hybrid_layers and use_shared_attention_adapter",
    ),
    "blocks.{i}.attention.v_adapter.down.weight": (
        "layers.{home[i]}.shared_transformer.self_attn.linear_v_adapter_list.{use[i]}.0.weight",
        "(R 2D)ᵀ",
        "hybrid_layers and use_shared_attention_adapter",
    ),
    "blocks.{i}.attention.v_adapter.up.weight": (
        "layers.{home[i]}.shared_transformer.self_attn.linear_v_adapter_list.{use[i]}.1.weight",
        "(GK R)ᵀ",
        "hybrid_layers and use_shared_attention_adapter",
    ),
    "blocks.{i}.feed_forward.adapter.down.weight":
        (
            "layers.{home[i]}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{use[i]}.0.weight",
            "(R D)ᵀ",
            "hybrid_layers",
        ),
    "blocks.{i}.feed_forward.adapter.gate.weight":
        (
            "layers.{home[i]}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{use[i]}.1.weight[:F]",
            "(2F R)ᵀ",
            "hybrid_layers",
        ),
    "blocks.{i}.feed_forward.adapter.up.weight":
        (
            "layers.{home[i]}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{use[i]}.1.weight[F:]",
            "(2F R)ᵀ",
            "hybrid_layers",
        ),
    "blocks.{i}.shared_out.weight": ("layers.{i}.linear.weight", "(D D)ᵀ", "hybrid_layers"),
    # of Mamba, in every layer
    "blocks.{i}.mixer_norm.gain": ("layers.{i}{within[i]}.input_layernorm.weight", "D"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}{within[i]}.mamba.in_proj.weight", "(2MP+2UN+M D)ᵀ"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}{within[i]}.mamba.in_proj.bias", "2MP+2UN+M", "add_bias_linear"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}{within[i]}.mamba.conv1d.weight", "MP+2UN 1 W"),
    "blocks.{i}.mixer.convolution.bias": ("layers.{i}{within[i]}.mamba.conv1d.bias", "MP+2UN"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}{within[i]}.mamba.dt_bias", "M"),
    "blocks.{i}.mixer.A_log": ("layers.{i}{within[i]}.mamba.A_log", "M"),
    "blocks.{i}.mixer.D": ("layers.{i}{within[i]}.mamba.D", "M"),
    "blocks.{i}.mixer.gated_norm.gain": ("layers.{i}{within[i]}.mamba.norm.weight", "MP"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}{within[i]}.mamba.out_proj.weight", "(D MP)ᵀ"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}{within[i]}.mamba.out_proj.bias", "D", "add_bias_linear"),
    "final_norm.gain": ("final_layernorm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Mamba; in some layers a shared block reads the stream before it and adds to Mamba's input."""

    def __init__(self, w: Weights, c: Zamba2Config, i: int):
        M, P, U, N = (c.sizes[letter] for letter in "MPUN")
        own = w / f"blocks.{i}"
        self.uses_shared = i in c.hybrid_layers
        if self.uses_shared:
            self.reads = (FIRST,)
            H, G, K = (c.sizes[letter] for letter in "HGK")
            shared = w / f"blocks.{c.home[i]}"
            self.attention_norm = RMSNorm(shared / "attention_norm", eps=c.rms_norm_eps)
            self.attention = AdaptedAttention(
                shared / "attention", heads=H, kv_heads=G, head_dim=K, scale=(K / 2) ** -0.5,
                rope=c.rope.rotary() if c.rope else None,
            )  # fmt: skip
            if c.use_shared_attention_adapter:
                self.attention.adapters = [Adapter(own / f"attention.{name}_adapter") for name in "qkv"]
            self.feed_forward_norm = RMSNorm(shared / "feed_forward_norm", eps=c.rms_norm_eps)
            adapter = own / "feed_forward.adapter"
            self.feed_forward = AdaptedFeedForward(
                shared / "feed_forward", ACTIVATIONS[c.hidden_act], adapter
            )
            self.shared_out = Linear(own / "shared_out")
        self.mixer_norm = RMSNorm(own / "mixer_norm", eps=c.rms_norm_eps)
        self.mixer = Mamba2(own / "mixer", heads=M, head_dim=P, groups=U, state_size=N, eps=1e-5)

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


class Adapter(Module):
    """A product of two narrow matrices, added to a shared one where it is used (LoRA).

    w  ``down`` (in, R) and ``up`` (R, out), linear layers
    """

    def __init__(self, w: Weights):
        self.down, self.up = Linear(w / "down"), Linear(w / "up")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., in) to (..., out), a new array."""
        return self.up(self.down(x))


class AdaptedAttention(Attention):
    """Attention whose queries, keys and values are those of a shared block and of an adapter together."""

    adapters: list[Adapter] | None = None

    def projected(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray, NDArray]:
        """Make queries (B, H, T, K), keys and values (B, G, T, K)."""
        q, k, v = linear_each((self.q, self.k, self.v), x)
        if self.adapters is not None:
            of_q, of_k, of_v = self.adapters
            q, k, v = q + of_q(x), k + of_k(x), v + of_v(x)
        return self.by_heads(q, k, v)


class AdaptedFeedForward(GatedFeedForward):
    """Gated feed-forward layer of a shared block, with an adapter of gate and up.

    adapter  ``down`` (D, R), ``gate`` and ``up`` (R, F), linear layers
    """

    def __init__(self, w: Weights, activation: Activation, adapter: Weights):
        super().__init__(w, activation)
        self.adapter_down = Linear(adapter / "down")
        self.adapter_gate, self.adapter_up = Linear(adapter / "gate"), Linear(adapter / "up")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)  # (B, T, F) each
        narrow = self.adapter_down(x)
        gate = tap("feed_forward.gate", gate + self.adapter_gate(narrow))
        up = tap("feed_forward.up", up + self.adapter_up(narrow))
        hidden = tap("feed_forward.activation", fast.gated_activation(gate, up, self.activation))
        return tap("feed_forward.down", self.down(hidden))


class Zamba2(Decoder[Zamba2Config]):
    """Zamba 2 in 1.2B, 2.7B and 7B."""

    Config = Zamba2Config
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "MU"))
    PREFIX = "model."
    IGNORED = r"layers\.\d+\.shared_transformer\..*"  # copies of a shared block at its later uses

    def build(self, w: Weights, c: Zamba2Config) -> None:
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
    grew_from="mamba2",
    kind="attention",
    changed="One or two shared blocks of attention and feed-forward before Mamba, with adapters",
    why="attention in every sixth layer, for the weights of two blocks",
    published="2.7B",
    keys={"num_hidden_layers": 54, "num_mem_blocks": 2},
)
