"""Nemotron-H (NVIDIA 2025, arXiv:2504.03624): each layer is Mamba 2, or attention, or feed-forward.

    x → norm → Mamba 2, attention, feed-forward or experts ──+ x      (× L)
    logits = norm(x) · W

| mixer                   | position | norm    | feed-forward                   | block     | context        |
|-------------------------|----------|---------|--------------------------------|-----------|----------------|
| Mamba 2; GQA in 4 of 52 | none     | RMSNorm | ReLU², not gated; in 3 also    | one       | 8192 – 1048576 |
| layers                  |          |         | 6 of 128 experts + shared      | branch    |                |

New in it: a layer is a norm and one branch. A string of letters gives the order, M for Mamba 2, * for
attention, - for feed-forward and E for experts: "M-M-M-M*-M-…". Attention stands in one layer of thirteen and
has no positions, since the recurrence before it carries the order. The feed-forward layer is squared ReLU
without a gate (So et al. 2021, arXiv:2109.08668). Mamba 2's norm takes each of its groups by itself, so that
these can be divided among machines.

Nemotron 3 (NVIDIA 2025, arXiv:2512.20848) has experts in place of the feed-forward layers, routed as in
DeepSeek-V3 (deepseek_v3.py), and a shared one. In its larger models the routed experts read and write a
latent vector, narrower than the stream, so that there can be more of them.

The makers limit Δ by ``time_step_limit``, which limits nothing as published. transformers reads
``time_step_min`` instead, a number for training, when it reads a text, and no limit for single tokens; here
the makers' limits hold.
"""

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, LayerState, NoState, RecurrentState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, Activation
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, Layer, Linear, Mixer, RMSNorm, one_sum
from tinystar_np.layers.experts import Experts, ExpertsAndShared
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, check_time_step_limit, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import layer_kinds
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

MAMBA, ATTENTION, DENSE, EXPERTS = "linear_attention", "full_attention", "mlp", "moe"
LETTERS = {"M": MAMBA, "*": ATTENTION, "-": DENSE, "E": EXPERTS}
OLDER = {"mamba": MAMBA, "attention": ATTENTION}
"""What files written before transformers 5 call two of the kinds."""


@dataclass(frozen=True)
class NemotronHConfig(Config):
    """The keys of a Nemotron-H config.json that change the mathematics; defaults as in transformers.

    The kinds of layers are named in ``layers_block_type``, or in old files by the letters of
    ``hybrid_override_pattern``; their number is that of the layers. Groups of Mamba 2 are ``n_groups``,
    groups of experts ``n_group``. ``attention_bias`` is not read, as in transformers: a file that has biases
    of attention is refused for tensors that no layer has.
    """

    vocab_size: int = key(131072, letter="V")
    hidden_size: int = key(4096, letter="D")
    num_hidden_layers: int | None = key(None, letter="L")
    layers_block_type: list[str] | None = key(None, aliases=("layer_types",))
    hybrid_override_pattern: str | None = None
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int = key(128, letter="K")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    intermediate_size: int = key(21504, letter="F")
    mlp_hidden_act: str = activation_key("relu2")
    mlp_bias: bool = False
    ssm_state_size: int = key(128, letter="N")
    mamba_num_heads: int = key(128, letter="M")
    mamba_head_dim: int = key(64, letter="P")
    mamba_hidden_act: str = activation_key("silu")
    n_groups: int = key(8, letter="U", aliases=("mamba_n_groups",))
    conv_kernel: int = key(4, letter="W", aliases=("mamba_d_conv",))
    use_conv_bias: bool = key(True, aliases=("mamba_conv_bias",))
    use_bias: bool = False
    time_step_limit: list[float] | tuple[float, ...] = key((0.0, inf), aliases=("mamba_dt_limit",))
    n_routed_experts: int = key(8, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(2, chosen_of="E")
    moe_intermediate_size: int = key(7688, letter="X")
    moe_shared_expert_intermediate_size: int = key(7688, letter="J")
    moe_latent_size: int | None = None
    routed_scaling_factor: float = 1.0
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    layer_norm_epsilon: float = key(1e-5, above=0)
    tie_word_embeddings: bool = False

    # The makers' code has windows; transformers' has none.
    REFUSED: ClassVar = {"sliding_window": (None,)}

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer."""
        if self.layers_block_type is None and self.hybrid_override_pattern is not None:
            return [LETTERS.get(letter, letter) for letter in self.hybrid_override_pattern]
        named = [*LETTERS.values()] if self.layers_block_type is None else self.layers_block_type
        return [OLDER.get(kind, kind) for kind in named]

    @property
    def sizes(self) -> dict[str, int]:
        """The letters: M heads of Mamba, P their width, U groups; R the width that experts read."""
        latent = self.hidden_size if self.moe_latent_size is None else self.moe_latent_size
        found = super().sizes | {"L": len(self.kinds), "R": latent}
        return {letter: size for letter, size in found.items() if letter not in self.absent_letters}

    @property
    def absent_letters(self) -> str:
        """The letters of layers that there are none of."""
        of_kinds = {MAMBA: "MPUNW", ATTENTION: "HGK", DENSE: "F", EXPERTS: "EXJR"}
        return "".join(letters for kind, letters in of_kinds.items() if kind not in self.kinds)

    @property
    def mamba_layers(self) -> list[int]:
        """The layers that are Mamba 2."""
        return self._layers(MAMBA)

    @property
    def attention_layers(self) -> list[int]:
        """The layers that are attention."""
        return self._layers(ATTENTION)

    @property
    def dense_layers(self) -> list[int]:
        """The layers that are a feed-forward layer for all tokens."""
        return self._layers(DENSE)

    @property
    def expert_layers(self) -> list[int]:
        """The layers that are experts."""
        return self._layers(EXPERTS)

    @property
    def feed_forward_layers(self) -> list[int]:
        """The layers that treat each token by itself."""
        return sorted(self.dense_layers + self.expert_layers)

    def _layers(self, kind: str) -> list[int]:
        return [i for i, name in enumerate(self.kinds) if name == kind]

    def check(self) -> None:
        """Refuse contradictions."""
        L, named = self.num_hidden_layers, self.kinds
        require(len(named) >= 1, "layers_block_type and hybrid_override_pattern name no layer.")
        require(
            L is None or len(named) == L,
            f"num_hidden_layers = {L}, but layers_block_type or hybrid_override_pattern names "
            f"{len(named)} layers.",
        )
        key_of = "hybrid_override_pattern" if self.layers_block_type is None else "layers_block_type"
        layer_kinds(named, named, tuple(LETTERS.values()), key_of)
        super().check()
        if self.mamba_layers:
            M, U = self.mamba_num_heads, self.n_groups
            require(M % U == 0, f"mamba_num_heads = {M} cannot be divided among n_groups = {U} groups.")
            check_time_step_limit(self.time_step_limit)
        if self.expert_layers:
            check_groups(self.n_routed_experts, self.num_experts_per_tok, self.n_group, self.topk_group)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embeddings.weight", "V D"),
    # in layers with Mamba
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.norm.weight", "D", "mamba_layers"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}.mixer.in_proj.weight", "(2MP+2UN+M D)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}.mixer.in_proj.bias", "2MP+2UN+M", "mamba_layers and use_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mixer.conv1d.weight", "MP+2UN 1 W", "mamba_layers"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}.mixer.conv1d.bias", "MP+2UN", "mamba_layers and use_conv_bias"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}.mixer.dt_bias", "M", "mamba_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.mixer.A_log", "M", "mamba_layers"),
    "blocks.{i}.mixer.D": ("layers.{i}.mixer.D", "M", "mamba_layers"),
    "blocks.{i}.mixer.gated_norm.gain": ("layers.{i}.mixer.norm.weight", "MP", "mamba_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.mixer.out_proj.weight", "(D MP)ᵀ", "mamba_layers"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.mixer.out_proj.bias", "D", "mamba_layers and use_bias"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.norm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.mixer.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.mixer.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.mixer.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.mixer.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    # in the others
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.norm.weight", "D", "feed_forward_layers"),
    # in layers with one feed-forward layer for all tokens
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mixer.up_proj.weight", "(F D)ᵀ", "dense_layers"),
    "blocks.{i}.feed_forward.up.bias": ("layers.{i}.mixer.up_proj.bias", "F", "dense_layers and mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mixer.down_proj.weight", "(D F)ᵀ", "dense_layers"),
    "blocks.{i}.feed_forward.down.bias":
        ("layers.{i}.mixer.down_proj.bias", "D", "dense_layers and mlp_bias"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mixer.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mixer.gate.e_score_correction_bias", "E", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mixer.experts.{e}.up_proj.weight", "(X R)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mixer.experts.{e}.down_proj.weight", "(R X)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.latent_down.weight":
        ("layers.{i}.mixer.fc1_latent_proj.weight", "(R D)ᵀ", "expert_layers and moe_latent_size"),
    "blocks.{i}.feed_forward.latent_down.bias":
        ("layers.{i}.mixer.fc1_latent_proj.bias", "R", "expert_layers and moe_latent_size and mlp_bias"),
    "blocks.{i}.feed_forward.latent_up.weight":
        ("layers.{i}.mixer.fc2_latent_proj.weight", "(D R)ᵀ", "expert_layers and moe_latent_size"),
    "blocks.{i}.feed_forward.latent_up.bias":
        ("layers.{i}.mixer.fc2_latent_proj.bias", "D", "expert_layers and moe_latent_size and mlp_bias"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mixer.shared_experts.up_proj.weight", "(J D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.up.bias":
        ("layers.{i}.mixer.shared_experts.up_proj.bias", "J", "expert_layers and mlp_bias"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mixer.shared_experts.down_proj.weight", "(D J)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.down.bias":
        ("layers.{i}.mixer.shared_experts.down_proj.bias", "D", "expert_layers and mlp_bias"),
    "final_norm.gain": ("norm_f.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # transformers 5's names in memory, which save_pretrained changes back
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mixer.experts.up_proj", "E (X R)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mixer.experts.down_proj", "E (R X)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """One branch, Mamba 2, attention or feed-forward: it reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: NemotronHConfig, i: int):
        kind = c.kinds[i]
        self.name = {MAMBA: "mixer", ATTENTION: "attention"}.get(kind, "feed_forward")
        self.norm = RMSNorm(w / f"{self.name}_norm", eps=c.layer_norm_epsilon)
        self.mixer: Mixer | None = None
        if kind == MAMBA:
            self.mixer = mamba(w / "mixer", c)
        elif kind == ATTENTION:
            H, G, K = (c.sizes[letter] for letter in "HGK")
            self.mixer = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K)
        else:
            self.feed_forward = feed_forward(w / "feed_forward", c, i)

    def new_state(self, batch_size: int, capacity: int) -> LayerState:
        """Make the empty state of the branch; a feed-forward layer has none."""
        return NoState() if self.mixer is None else self.mixer.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.norm(x))
        y = self.mixer(normed, step, state) if self.mixer else self.feed_forward(step.wanted(normed))
        return tap("residual", step.wanted(x) + y)


def mamba(w: Weights, c: NemotronHConfig) -> Mamba2:
    """Build a Mamba 2 mixer."""
    M, P, U, N = (c.sizes[letter] for letter in "MPUN")
    least, largest = c.time_step_limit
    return Mamba2(
        w, heads=M, head_dim=P, groups=U, state_size=N, eps=c.layer_norm_epsilon,
        activation=ACTIVATIONS[c.mamba_hidden_act], time_step_limit=(least, largest),
    )  # fmt: skip


def feed_forward(w: Weights, c: NemotronHConfig, i: int) -> Layer:
    """Build layer i's feed-forward layer, or its experts and the shared one."""
    activation = ACTIVATIONS[c.mlp_hidden_act]
    if i in c.dense_layers:
        return FeedForward(w, activation)
    routing = partial(
        sigmoid_grouped_top_k, correction=w["router.correction"], groups=c.n_group, kept=c.topk_group,
        normed=c.norm_topk_prob, factor=c.routed_scaling_factor,
    )  # fmt: skip
    each = [PlainExpert(w / f"experts.{e}", activation) for e in range(c.n_routed_experts)]
    experts = Experts(w, each, per_token=c.num_experts_per_tok, routing=routing)
    shared = FeedForward(w / "shared", activation)
    if c.moe_latent_size is None:
        return ExpertsAndShared(experts, shared)
    return LatentExpertsAndShared(w, experts, shared)


class PlainExpert(Module):
    """A feed-forward layer without a gate for the tokens that chose it; arguments as of ``FeedForward``."""

    def __init__(self, w: Weights, activation: Activation):
        self.up, self.down = Linear(w / "up"), Linear(w / "down")
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        return self.down(fast.activate(self.up(x), self.activation))


class LatentExpertsAndShared(Module):
    """Experts between two linear maps, and a shared expert: y = up(experts(down(x))) + shared(x).

    The router and the shared expert read x itself. Ranks add up both terms at once.

    w        ``latent_down`` (D, R) and ``latent_up`` (R, D), linear layers
    experts  the routed ones, from (n, R) to (n, R)
    shared   a feed-forward layer
    """

    def __init__(self, w: Weights, experts: Experts, shared: FeedForward):
        self.latent_down, self.latent_up = Linear(w / "latent_down"), Linear(w / "latent_up")
        self.experts, self.shared = experts, shared
        self.sum = one_sum(experts, shared.down)
        if self.sum is not None:  # each rank maps its part of the sum
            self.latent_up.bias = w.once("latent_up.bias")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        chosen, weights = self.experts.routed(x)
        y = self.latent_up(self.experts.mixed(self.latent_down(x), chosen, weights))
        y = tap("feed_forward.experts", y) + self.shared(x)
        return tap("feed_forward.out", y if self.sum is None else self.sum(y))


class NemotronH(Decoder[NemotronHConfig]):
    """Nemotron-H in 4B, 8B, 47B and 56B; Nemotron Nano 2; Nemotron 3, with experts."""

    Config = NemotronHConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "MU"), features=("F", "V", "J"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "backbone."
    OTHER_NAMES: ClassVar = {r"model\.(.*)": r"\1"}  # transformers 5's in memory
    IGNORED = r"mtp\..*"  # layers that predict the token after the next

    def build(self, w: Weights, c: NemotronHConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(len(c.kinds))]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mamba2",
    kind="block",
    changed="Each layer is one branch: Mamba 2, feed-forward or, in one of thirteen, attention",
    why="up to three times as fast as a transformer of its size on long texts",
    published="8B",
    keys={
        "num_hidden_layers": 52,
        "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    },
)
