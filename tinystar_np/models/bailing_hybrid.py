"""Ling 3.0 Flash (inclusionAI 2026): Kimi Delta Attention with bounded decays.

    x → norm → delta net or latent attention ──+ x → norm → experts ──+ x      (× L; the first 2 are dense)
    logits = norm(x) · W                experts = shared + the 8 best of 512

| mixer                      | position          | norm    | feed-forward          | block      | context |
|----------------------------|-------------------|---------|-----------------------|------------|---------|
| Kimi Delta Attention;      | RoPE on 64 of 192 | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 262144  |
| latent, R = 512, in 1 of 6 | where it attends  |         |                       |            |         |

New in it, beside Kimi Linear (kimi_linear.py, arXiv:2510.26692): decays are bounded. The logarithm of a decay
is −5 times a sigmoid, so that each channel keeps at least e⁻⁵ of its state at every token; in Kimi Linear it
has no lower bound. Decays and gates come from matrices of full rank. Every sixth layer is DeepSeek's latent
attention, rotated in neighbouring pairs, and the output of each head is multiplied by a gate, one number per
head (Qiu et al. 2025, arXiv:2505.06708). The first models of this ``model_type`` (Ling 2.5) had lightning
attention, which transformers does not implement. The output layer has its own weights, whatever
``tie_word_embeddings`` says.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, sigmoid, softplus
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, Mixer, RMSNorm
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.latent_attention import LatentAttention, LatentQueryAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds, sparse_layers
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

LINEAR = "linear_attention"


@dataclass(frozen=True)
class BailingHybridConfig(Config):
    """The keys of a Ling 3 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    ``head_dim`` is the width of the delta nets' heads; transformers writes the width of what latent attention
    rotates under this name, and that of the delta nets as ``linear_head_dim``.
    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups.
    """

    vocab_size: int = key(157184, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(6144, letter="F")
    num_hidden_layers: int = key(42, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = 32
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int | None = key(None, letter="Q")
    qk_nope_head_dim: int = key(128, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(262144, is_trained_length=True, aliases=("model_max_length",))
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(6_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    moe_intermediate_size: int = key(768, letter="M")
    num_local_experts: int = key(512, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(8, chosen_of="E", aliases=("num_experts_per_token",))
    n_shared_experts: int = key(1, letter="S", aliases=("num_shared_experts",))
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = key(True, aliases=("moe_renormalize",))
    n_group: int = key(8, aliases=("num_expert_group",))
    topk_group: int = 4
    first_k_dense_replace: int = key(2, least=0)
    mlp_layer_types: list[str] | None = None
    layer_group_size: int = 6
    layer_types: list[str] | None = None
    linear_num_heads: int | None = None
    head_dim: int = key(128, letter="X", aliases=("linear_head_dim",))
    short_conv_kernel_size: int = key(4, letter="W", aliases=("linear_conv_kernel_dim",))
    kda_safe_gate: bool = True
    kda_lower_bound: float = -5.0

    REFUSED: ClassVar = {"scoring_func": ("sigmoid", None), "score_function": ("sigmoid", None)}

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Take the width of the delta nets' heads from where transformers writes it."""
        if raw.get("linear_head_dim") is not None:
            raw = {name: value for name, value in raw.items() if name != "head_dim"}
        return super().from_dict(raw)

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the part of a head that is rotated."""
        return RopeParameters.read(vars(self), head_dim=self.qk_rope_head_dim)

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(K + P) times the square of yarn's factor for whole heads.

        ``rope`` has the factor for the rotated numbers alone.
        """
        weight = RopeKeys.of(vars(self), None).number("mscale_all_dim", AT_LEAST_0, 0.0)
        sharper = 1 + 0.1 * weight * math.log(max(self.rope.factor, 1))
        return sharper**2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is latent attention: every n-th, where the file does not name them."""
        usual = [LINEAR] * self.num_hidden_layers
        if self.layer_types is None:
            n = at_least_1("layer_group_size", self.layer_group_size)
            usual = [LINEAR if (i + 1) % n else FULL for i in range(self.num_hidden_layers)]
        kinds = layer_kinds(self.layer_types, usual, (LINEAR, FULL))
        return [i for i, kind in enumerate(kinds) if kind == FULL]

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts: those after the first, dense ones, where the file does not name them."""
        return sparse_layers(self.mlp_layer_types, self.num_hidden_layers, dense=self.first_k_dense_replace)

    @property
    def absent_letters(self) -> str:
        """The letters of key/value heads, and of kinds of mixers and feed-forward layers that are absent."""
        L, attending, count = self.num_hidden_layers, len(self.attention_layers), len(self.expert_layers)
        of_feed_forward = ("" if count else "EMS") + ("F" if count == L else "")
        return "G" + of_feed_forward + ("" if attending else "RQKPU") + ("XW" if attending == L else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        P, H = self.qk_rope_head_dim, self.num_attention_heads
        require(P % 2 == 0, f"qk_rope_head_dim = {P} makes no pairs.")
        super().check()
        for name in ("num_key_value_heads", "linear_num_heads"):
            given = getattr(self, name)
            require(given in (None, H), f"{name} = {given} is not num_attention_heads = {H}.")
        _ = self.scale
        if self.expert_layers:
            check_groups(
                self.num_local_experts, self.num_experts_per_tok, self.n_group, self.topk_group,
                "num_local_experts",
            )  # fmt: skip


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("word_embeddings.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight":
        ("layers.{i}.attention.q_proj.weight", "(H[K+P] D)ᵀ", "attention_layers and not q_lora_rank"),
    "blocks.{i}.attention.q_down.weight":
        ("layers.{i}.attention.q_a_proj.weight", "(Q D)ᵀ", "attention_layers and q_lora_rank"),
    "blocks.{i}.attention.q_down.bias":
        ("layers.{i}.attention.q_a_proj.bias", "Q", "attention_layers and q_lora_rank and attention_bias"),
    "blocks.{i}.attention.q_norm.gain":
        ("layers.{i}.attention.q_a_layernorm.weight", "Q", "attention_layers and q_lora_rank"),
    "blocks.{i}.attention.q_up.weight":
        ("layers.{i}.attention.q_b_proj.weight", "(H[K+P] Q)ᵀ", "attention_layers and q_lora_rank"),
    "blocks.{i}.attention.kv_down.weight":
        ("layers.{i}.attention.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i}.attention.kv_a_proj_with_mqa.bias", "R+P", "attention_layers and attention_bias"),
    "blocks.{i}.attention.kv_norm.gain":
        ("layers.{i}.attention.kv_a_layernorm.weight", "R", "attention_layers"),
    "blocks.{i}.attention.kv_up.weight":
        ("layers.{i}.attention.kv_b_proj.weight", "(H[K+U] R)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.attention.dense.weight", "(D HU)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias":
        ("layers.{i}.attention.dense.bias", "D", "attention_layers and attention_bias"),
    "blocks.{i}.attention.gate.weight": ("layers.{i}.attention.g_proj.weight", "(H D)ᵀ", "attention_layers"),
    # in layers with a delta net
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "not attention_layers"),
    "blocks.{i}.mixer.in.q.weight": ("layers.{i}.attention.q_proj.weight", "(HX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.in.k.weight": ("layers.{i}.attention.k_proj.weight", "(HX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.in.v.weight": ("layers.{i}.attention.v_proj.weight", "(HX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.q_convolution.weight":
        ("layers.{i}.attention.q_conv1d.weight", "HX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.k_convolution.weight":
        ("layers.{i}.attention.k_conv1d.weight", "HX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.v_convolution.weight":
        ("layers.{i}.attention.v_conv1d.weight", "HX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.b.weight": ("layers.{i}.attention.b_proj.weight", "(H D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.decay.weight":
        ("layers.{i}.attention.f_proj.weight", "(HX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.decay.bias": ("layers.{i}.attention.dt_bias", "HX", "not attention_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.attention.A_log", "H", "not attention_layers"),
    "blocks.{i}.mixer.gate.weight":
        ("layers.{i}.attention.g_proj.weight", "(HX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.norm.gain": ("layers.{i}.attention.o_norm.weight", "X", "not attention_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.attention.dense.weight", "(D HX)ᵀ", "not attention_layers"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.gate.expert_bias", "E", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "(MS D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_experts.up_proj.weight", "(MS D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "(D MS)ᵀ", "expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ"),
}  # fmt: skip
IN_MEMORY: WeightTable = {  # transformers 5's tensors in memory, which save_pretrained takes apart
    "blocks.{i}.mixer.q_convolution.weight":
        ("layers.{i}.attention.conv1d.weight[:HX]", "3HX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.k_convolution.weight":
        ("layers.{i}.attention.conv1d.weight[HX:2HX]", "3HX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.v_convolution.weight":
        ("layers.{i}.attention.conv1d.weight[2HX:]", "3HX 1 W", "not attention_layers"),
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
    """Delta net or latent attention, then experts or dense layer: each reads a normed copy and adds."""

    def __init__(self, w: Weights, c: BailingHybridConfig, i: int):
        self.mixer: Mixer
        if i in c.attention_layers:
            self.name = "attention"
            self.mixer = latent_attention(w / "attention", c)
        else:
            self.name = "mixer"
            self.mixer = BoundedDeltaNet(w / "mixer", c)
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


class BoundedDeltaNet(ChannelDeltaNet):
    """Kimi Delta Attention whose decays are bounded from below, with gates from matrices of full rank.

        g = bound · sigmoid(exp(A_log) · decay(input))     with ``kda_safe_gate``; otherwise
        g = −exp(A_log) · softplus(decay(input))

    w  as in ``ChannelDeltaNet``, with linear layers ``decay`` and ``gate`` (D, H·K), and ``A_log`` (H,)
    c  the model's config
    """

    def __init__(self, w: Weights, c: BailingHybridConfig):
        self.bound = c.kda_lower_bound if c.kda_safe_gate else None
        super().__init__(
            w, heads=c.num_attention_heads, head_dim=c.head_dim, eps=c.rms_norm_eps,
            activation=ACTIVATIONS[c.hidden_act],
        )  # fmt: skip

    def build_gates(self, w: Weights) -> None:
        """Build the linear layers of decays and of the output gate."""
        self.decay, self.output_gate = Linear(w / "decay"), Linear(w / "gate")

    def decays(self, x: NDArray) -> NDArray:
        """Compute the logarithms of the decays, at most 0: (B, T, D) → (B, T, H, K)."""
        moved = self.by_heads(self.decay(x))
        if self.bound is None:
            return self.A * softplus(moved)
        return np.float32(self.bound) * sigmoid(-self.A * moved)

    def gate(self, x: NDArray) -> NDArray:
        """Compute the output gate before its sigmoid: (B, T, D) → (B, T, H·K)."""
        return self.output_gate(x)


def latent_attention(w: Weights, c: BailingHybridConfig) -> LatentAttention:
    """Build latent attention with a gate for each head."""
    attention = LatentAttention if c.q_lora_rank is None else LatentQueryAttention
    return attention(
        w,
        heads=c.num_attention_heads,
        rank=c.kv_lora_rank,
        head_dim=c.qk_nope_head_dim,
        rope_dim=c.qk_rope_head_dim,
        value_dim=c.v_head_dim,
        scale=c.scale,
        eps=1e-6,  # whatever rms_norm_eps says
        rope=c.rope.rotary(interleaved=True),
    )


def feed_forward(w: Weights, c: BailingHybridConfig, i: int) -> Layer:
    """Build layer i's experts and the shared ones, these as one layer; or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    routing = partial(
        sigmoid_grouped_top_k,
        correction=w["router.correction"],
        groups=c.n_group,
        kept=c.topk_group,
        normed=c.norm_topk_prob,
        factor=c.routed_scaling_factor,
    )
    experts = Experts(
        w,
        gated_experts(w / "experts", c.num_local_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class BailingHybrid(Decoder[BailingHybridConfig]):
    """Ling 3 Flash."""

    Config = BailingHybridConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS, IN_MEMORY)
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # transformers' names in memory, which save_pretrained changes back
        r"embed_tokens\.weight": "word_embeddings.weight",
        r"(layers\.\d+)\.self_attn\.o_proj\.(.*)": r"\1.attention.dense.\2",
        r"(layers\.\d+)\.self_attn\.(?:forget_gate\.)?(.*)": r"\1.attention.\2",
        r"(layers\.\d+)\.mlp\.gate\.e_score_correction_bias": r"\1.mlp.gate.expert_bias",
    }
    IGNORED = r"layers\.42\..*"  # multi-token prediction: predicts the token after the next

    def build(self, w: Weights, c: BailingHybridConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="kimi_linear",
    kind="recurrence",
    changed="Decays bounded from below; rotations and a gate for each head in latent attention",
    why="no channel loses its state at a single token",
    published="3.0 Flash",
    keys={"num_hidden_layers": 6},
)
