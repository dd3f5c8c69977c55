"""Qwen3-Next (Qwen Team 2025): three layers of gated delta rule for each layer of gated attention.

    x → norm → delta net or attention ──+ x → norm ─┬→ the 10 best of 512 experts ─┬──+ x      (× L)
                                                    └→ shared expert · σ(gate) ────┘
    logits = norm(x) · W

| mixer                | position       | norm         | feed-forward               | block      | context |
|----------------------|----------------|--------------|----------------------------|------------|---------|
| delta net; gated GQA | RoPE on 1 of 4 | RMSNorm, 1+w | SwiGLU, 10 of 512 + shared | sequential | 262144  |

New in it: three layers of four are gated delta nets, whose state is a matrix per head, in which a key's value
replaces the one before (kernels/delta_rule.py; Yang et al. 2024, arXiv:2412.06464). Every fourth layer is
attention as in Qwen3, but a head's output is multiplied by a gate that depends on the token (Qiu et al. 2025,
arXiv:2505.06708), and a quarter of each head is rotated. Norms store their gain less 1. The experts are
Qwen2-MoE's, smaller: a token uses 3 of 80 billion weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k, top_k_softmax
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, Mixer, RMSNorm
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Experts, ExpertsAndGatedShared, gated_experts
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
class Qwen3NextConfig(Config):
    """The keys of a Qwen3-Next config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    """

    vocab_size: int = key(151936, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(5632, letter="F")
    num_hidden_layers: int = key(48, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(2, letter="G")
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
    num_experts: int = key(512, letter="E")
    num_experts_per_tok: int = key(10, chosen_of="E")
    norm_topk_prob: bool = True
    moe_intermediate_size: int = key(512, letter="M")
    shared_expert_intermediate_size: int = key(512, letter="C")
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None
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
    def expert_layers(self) -> Sequence[int]:
        """The layers with experts: every n-th, except those that are listed as dense."""
        if self.num_experts == 0:
            return []
        sparse = [i for i in range(self.num_hidden_layers) if i not in (self.mlp_only_layers or ())]
        n = at_least_1("decoder_sparse_step", self.decoder_sparse_step) if sparse else 1
        return [i for i in sparse if (i + 1) % n == 0]

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with Q heads of values in a delta net's group."""
        found = super().sizes
        return found | ({"Q": found["Y"] // max(found["X"], 1)} if "Y" in found else {})

    @property
    def absent_letters(self) -> str:
        """The letters of experts, dense layers, attention and delta nets, where there are none."""
        experts = len(self.expert_layers)
        return (
            ("" if experts else "EMC")
            + ("F" if experts == self.num_hidden_layers else "")
            + ("" if self.attention_layers else "HGK")
            + ("" if self.linear_layers else "XYPUW")
        )

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None in a model without attention."""
        if not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        dense = self.mlp_only_layers
        whole = all(isinstance(i, int) and not isinstance(i, bool) for i in dense or ())
        require(whole, f"mlp_only_layers = {shown(dense)}, but it must be a list of layers' numbers.")
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
    "blocks.{i}.mixer.in.weight":
        ("layers.{i}.linear_attn.in_proj_qkvz.weight", "(X[2P+2QU] D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.in_gates.weight":
        ("layers.{i}.linear_attn.in_proj_ba.weight", "(X[2Q] D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.convolution.weight":
        ("layers.{i}.linear_attn.conv1d.weight", "2XP+YU 1 W", "linear_layers"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}.linear_attn.dt_bias", "Y", "linear_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.linear_attn.A_log", "Y", "linear_layers"),
    "blocks.{i}.mixer.norm.gain": ("layers.{i}.linear_attn.norm.weight", "U", "linear_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.linear_attn.out_proj.weight", "(D YU)ᵀ", "linear_layers"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared_gate.weight":
        ("layers.{i}.mlp.shared_expert_gate.weight", "(1 D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_expert.gate_proj.weight", "(C D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_expert.up_proj.weight", "(C D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_expert.down_proj.weight", "(D C)ᵀ", "expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """Delta net or attention, then feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Qwen3NextConfig, i: int):
        self.mixer: Mixer
        if i in c.linear_layers:
            self.name = "mixer"
            self.mixer = delta_net(w / "mixer", c)
        else:
            self.name = "attention"
            self.mixer = gated_attention(w / "attention", c)
        self.mixer_norm = RMSNorm(w / f"{self.name}_norm", eps=c.rms_norm_eps, offset=1.0)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps, offset=1.0)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def delta_net(w: Weights, c: Qwen3NextConfig) -> GatedDeltaNet:
    """Build a delta net."""
    X, Y, P, U = (c.sizes[letter] for letter in "XYPU")
    return GatedDeltaNet(
        w,
        heads=Y,
        groups=X,
        head_dim=P,
        value_dim=U,
        eps=c.rms_norm_eps,
        activation=ACTIVATIONS[c.hidden_act],
    )


def gated_attention(w: Weights, c: Qwen3NextConfig) -> GatedAttention:
    """Build an attention layer."""
    H, G, K = (c.sizes[letter] for letter in "HGK")
    norms = [RMSNorm(w / name, eps=c.rms_norm_eps, offset=1.0) for name in ("q_norm", "k_norm")]
    rope = c.rope.rotary() if c.rope else None
    return GatedAttention(w, heads=H, kv_heads=G, head_dim=K, rope=rope, norms=(norms[0], norms[1]))


def feed_forward(w: Weights, c: Qwen3NextConfig, i: int) -> Layer:
    """Build layer i's experts and the shared one, or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    experts = Experts(
        w,
        gated_experts(w / "experts", c.num_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=top_k_softmax if c.norm_topk_prob else softmax_top_k,
    )
    return ExpertsAndGatedShared(
        experts, GatedFeedForward(w / "shared", activation), Linear(w / "shared_gate")
    )


class Qwen3Next(Decoder[Qwen3NextConfig]):
    """Qwen3-Next-80B-A3B and Qwen3-Coder-Next."""

    Config = Qwen3NextConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "YXQ"), features=("F", "V", "C"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"mtp\..*"  # layers that predict further tokens

    def build(self, w: Weights, c: Qwen3NextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps, offset=1.0)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3_moe",
    kind="recurrence",
    changed="Gated delta nets in three of four layers; gated attention in the fourth",
    why="a state of fixed size that is corrected, not only added to",
    published="80B-A3B",
    keys={"num_hidden_layers": 4},
)
