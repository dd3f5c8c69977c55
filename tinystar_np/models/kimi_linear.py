"""Kimi Linear (Kimi Team 2025, arXiv:2510.26692): delta nets with a decay for each channel.

    x → norm → delta net or latent attention ──+ x → norm → experts ──+ x      (× L; the first layer is dense)
    logits = norm(x) · W                experts = shared + the 8 best of 256

| mixer                    | position | norm    | feed-forward          | block      | context |
|--------------------------|----------|---------|-----------------------|------------|---------|
| Kimi Delta Attention;    | none     | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 1048576 |
| latent, R = 512, in 1 of |          |         |                       |            |         |
| 4 layers                 |          |         |                       |            |         |

New in it: three layers of four are delta nets as in Qwen3-Next (qwen3_next.py), but each channel of a head's
keys has a decay of its own that depends on the token (kernels/channel_delta_rule.py), and the gate of a
head's output is a sigmoid. Every fourth layer is DeepSeek's latent attention without rotations: the delta
nets carry the order. Experts are DeepSeek-V3's (deepseek_v3.py); a token uses 3 of 48 billion weights.
transformers writes dense layers under the experts' name; both names are read. The output layer is never tied
to the embedding, whatever the config says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, Mixer, RMSNorm
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.latent_attention import LatentAttention, LatentQueryAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds, sparse_layers
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

LINEAR = "linear_attention"
INNER = {
    "head_dim": "linear_head_dim",
    "num_heads": "linear_num_heads",
    "short_conv_kernel_size": "linear_conv_kernel_dim",
}
"""Keys of ``linear_attn_config`` in the makers' files, and transformers' names."""
FULL_LAYERS, LINEAR_LAYERS = "full_attn_layers", "kda_layers"


@dataclass(frozen=True)
class KimiLinearConfig(Config):
    """The keys of a Kimi Linear config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups. P is
    the width of the key that all heads share, which nothing rotates.
    """

    vocab_size: int = key(163840, letter="V")
    hidden_size: int = key(2304, letter="D")
    intermediate_size: int = key(9216, letter="F")
    num_hidden_layers: int = key(27, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = 32
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int | None = key(None, letter="Q")
    qk_nope_head_dim: int = key(128, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(1048576, is_trained_length=True, aliases=("model_max_length",))
    rms_norm_eps: float = key(1e-5, above=0)
    attention_bias: bool = False
    moe_intermediate_size: int = key(1024, letter="M")
    num_local_experts: int = key(256, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(8, chosen_of="E", aliases=("num_experts_per_token",))
    n_shared_experts: int = key(1, letter="S", aliases=("num_shared_experts",))
    routed_scaling_factor: float = 2.446
    norm_topk_prob: bool = key(True, aliases=("moe_renormalize",))
    n_group: int = key(1, aliases=("num_expert_group",))
    topk_group: int = 1
    first_k_dense_replace: int = key(1, least=0)
    mlp_layer_types: list[str] | None = None
    layer_types: list[str] | None = None
    linear_num_heads: int = key(32, letter="Y")
    linear_head_dim: int = key(128, letter="X")
    linear_conv_kernel_dim: int = key(4, letter="W")

    REFUSED: ClassVar = {
        "mla_use_nope": (True, None),
        "moe_layer_freq": (1, None),
        "moe_router_activation_func": ("sigmoid", None),
    }

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config; the makers' files have what concerns delta nets in an object of its own."""
        inner = raw.get("linear_attn_config")
        if inner is None:
            return super().from_dict(raw)
        require(isinstance(inner, Mapping), f"linear_attn_config = {shown(inner)}, but it must be an object.")
        odd = [name for name in inner if name not in (*INNER, FULL_LAYERS, LINEAR_LAYERS)]
        require(not odd, f"linear_attn_config.{odd[:1]} is not implemented for this architecture.")
        flat = {INNER[name]: value for name, value in inner.items() if name in INNER}
        lists = inner.get(FULL_LAYERS), inner.get(LINEAR_LAYERS)
        if raw.get("layer_types") is None and all(isinstance(each, list) for each in lists):
            full, linear = lists
            kinds = dict.fromkeys(full, FULL) | dict.fromkeys(linear, LINEAR)  # counted from 1
            require(
                sorted(kinds) == list(range(1, len(full) + len(linear) + 1)),
                f"linear_attn_config.{FULL_LAYERS} and {LINEAR_LAYERS} do not name each layer once.",
            )
            flat["layer_types"] = [kinds[i + 1] for i in range(len(kinds))]
        return super().from_dict({**raw, **flat})

    @property
    def attention_layers(self) -> list[int]:
        """The layers whose mixer is latent attention: every fourth, where the file does not name them."""
        usual = [FULL if i and i % 4 == 0 else LINEAR for i in range(self.num_hidden_layers)]
        kinds = layer_kinds(self.layer_types, usual, (LINEAR, FULL))
        return [i for i, kind in enumerate(kinds) if kind == FULL]

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts: those after the first, dense ones, where the file does not name them."""
        return sparse_layers(self.mlp_layer_types, self.num_hidden_layers, dense=self.first_k_dense_replace)

    @property
    def absent_letters(self) -> str:
        """The letters of key/value heads, and of mixers and feed-forward layers that there are none of."""
        attending, count = len(self.attention_layers), len(self.expert_layers)
        return (
            "G"
            + ("" if count else "EMS")
            + ("F" if count == self.num_hidden_layers else "")
            + ("" if attending else "HRQKPU")
            + ("YXW" if attending == self.num_hidden_layers else "")
        )

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        if self.expert_layers:
            E, k, name = self.num_local_experts, self.num_experts_per_tok, "num_local_experts"
            check_groups(E, k, self.n_group, self.topk_group, name)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight":
        ("layers.{i}.self_attn.q_proj.weight", "(H[K+P] D)ᵀ", "attention_layers and not q_lora_rank"),
    "blocks.{i}.attention.q_down.weight":
        ("layers.{i}.self_attn.q_a_proj.weight", "(Q D)ᵀ", "attention_layers and q_lora_rank"),
    "blocks.{i}.attention.q_down.bias":
        ("layers.{i}.self_attn.q_a_proj.bias", "Q", "attention_layers and q_lora_rank and attention_bias"),
    "blocks.{i}.attention.q_norm.gain":
        ("layers.{i}.self_attn.q_a_layernorm.weight", "Q", "attention_layers and q_lora_rank"),
    "blocks.{i}.attention.q_up.weight":
        ("layers.{i}.self_attn.q_b_proj.weight", "(H[K+P] Q)ᵀ", "attention_layers and q_lora_rank"),
    "blocks.{i}.attention.kv_down.weight":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.bias", "R+P", "attention_layers and attention_bias"),
    "blocks.{i}.attention.kv_norm.gain":
        ("layers.{i}.self_attn.kv_a_layernorm.weight", "R", "attention_layers"),
    "blocks.{i}.attention.kv_up.weight":
        ("layers.{i}.self_attn.kv_b_proj.weight", "(H[K+U] R)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HU)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias":
        ("layers.{i}.self_attn.o_proj.bias", "D", "attention_layers and attention_bias"),
    # in layers with a delta net
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D", "not attention_layers"),
    "blocks.{i}.mixer.in.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(YX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.in.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(YX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.in.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(YX D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.q_convolution.weight":
        ("layers.{i}.self_attn.q_conv1d.weight", "YX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.k_convolution.weight":
        ("layers.{i}.self_attn.k_conv1d.weight", "YX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.v_convolution.weight":
        ("layers.{i}.self_attn.v_conv1d.weight", "YX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.b.weight": ("layers.{i}.self_attn.b_proj.weight", "(Y D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.decay.down.weight":
        ("layers.{i}.self_attn.f_a_proj.weight", "(X D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.decay.up.weight":
        ("layers.{i}.self_attn.f_b_proj.weight", "(YX X)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.decay.bias": ("layers.{i}.self_attn.dt_bias", "YX", "not attention_layers"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.self_attn.A_log", "1 1 Y 1", "not attention_layers"),
    "blocks.{i}.mixer.gate.down.weight":
        ("layers.{i}.self_attn.g_a_proj.weight", "(X D)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.gate.up.weight":
        ("layers.{i}.self_attn.g_b_proj.weight", "(YX X)ᵀ", "not attention_layers"),
    "blocks.{i}.mixer.norm.gain": ("layers.{i}.self_attn.o_norm.weight", "X", "not attention_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D YX)ᵀ", "not attention_layers"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.gate.e_score_correction_bias", "E", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.w1.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.w3.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.w2.weight", "(D M)ᵀ", "expert_layers"),
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
        ("layers.{i}.self_attn.conv1d.weight[:YX]", "3YX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.k_convolution.weight":
        ("layers.{i}.self_attn.conv1d.weight[YX:2YX]", "3YX 1 W", "not attention_layers"),
    "blocks.{i}.mixer.v_convolution.weight":
        ("layers.{i}.self_attn.conv1d.weight[2YX:]", "3YX 1 W", "not attention_layers"),
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

    def __init__(self, w: Weights, c: KimiLinearConfig, i: int):
        self.mixer: Mixer
        if i in c.attention_layers:
            self.name = "attention"
            self.mixer = latent_attention(w / "attention", c)
        else:
            self.name = "mixer"
            self.mixer = ChannelDeltaNet(
                w / "mixer",
                heads=c.linear_num_heads,
                head_dim=c.linear_head_dim,
                eps=c.rms_norm_eps,
                activation=ACTIVATIONS[c.hidden_act],
            )
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


def latent_attention(w: Weights, c: KimiLinearConfig) -> LatentAttention:
    """Build latent attention, without rotations."""
    attention = LatentAttention if c.q_lora_rank is None else LatentQueryAttention
    return attention(
        w,
        heads=c.num_attention_heads,
        rank=c.kv_lora_rank,
        head_dim=c.qk_nope_head_dim,
        rope_dim=c.qk_rope_head_dim,
        value_dim=c.v_head_dim,
        scale=(c.qk_nope_head_dim + c.qk_rope_head_dim) ** -0.5,
        eps=1e-6,  # whatever the other norms have
    )


def feed_forward(w: Weights, c: KimiLinearConfig, i: int) -> Layer:
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


class KimiLinear(Decoder[KimiLinearConfig]):
    """Kimi Linear."""

    Config = KimiLinearConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("H", "Y"))
    OTHER_FORMS = (FUSED_EXPERTS, IN_MEMORY)
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {
        r"(layers\.\d+)\.block_sparse_moe\.(.*)": r"\1.mlp.\2",
        r"(.*self_attn)\.forget_gate\.(.*)": r"\1.\2",
    }

    def build(self, w: Weights, c: KimiLinearConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3_next",
    kind="recurrence",
    changed="A decay for every channel of a delta net's keys; latent attention without positions",
    why="some channels remember the whole text, others only the last tokens",
    published="48B-A3B",
    keys={"num_hidden_layers": 4, "layer_types": ["linear_attention"] * 3 + ["full_attention"]},
)
