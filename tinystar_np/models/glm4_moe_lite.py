"""GLM-4.7 Flash (Z.ai 2026; GLM-4.5, arXiv:2508.06471), 30B with 3B in use: latent attention.

    x → norm → latent attention ──+ x → norm → experts ──+ x      (× L; the first layer is dense)
    logits = norm(x) · W             experts = shared + the 4 best of 64

| attention       | position          | norm    | feed-forward          | block      | context |
|-----------------|-------------------|---------|-----------------------|------------|---------|
| latent, R = 512 | RoPE on 64 of 256 | RMSNorm | SwiGLU; 1 + 4 experts | sequential | 202752  |

New in it, beside DeepSeek-V3 (deepseek_v3.py): its sizes. GLM-4.5 (glm4_moe.py) has grouped-query attention;
this small successor caches latents as DeepSeek does, with values wider than the unrotated part of keys,
experts in one group, and a list that says which layers are dense. The layer that predicts the token after the
next (multi-token prediction) is in the file, but not needed for the next token.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.latent_attention import LatentAttention, LatentQueryAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import sparse_layers
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Glm4MoeLiteConfig(Config):
    """The keys of a GLM-4.7 Flash config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups. ``head_dim``,
    as transformers calls it too, is the width of the part of a head that is rotated.
    """

    vocab_size: int = key(154880, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(10240, letter="F")
    num_hidden_layers: int = key(47, letter="L")
    num_attention_heads: int = key(20, letter="H")
    num_key_value_heads: int | None = 20
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int | None = key(768, letter="Q")
    qk_nope_head_dim: int = key(192, letter="K")
    qk_rope_head_dim: int = key(64, letter="P", aliases=("head_dim",))
    v_head_dim: int = key(256, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(202752, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    rope_interleave: bool = True
    attention_bias: bool = False
    moe_intermediate_size: int = key(1536, letter="M")
    n_routed_experts: int = key(64, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(4, chosen_of="E")
    n_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 1.8
    norm_topk_prob: bool = True
    n_group: int = 1
    topk_group: int = 1
    mlp_layer_types: list[str] | None = None
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {
        "first_k_dense_replace": (1, None),  # transformers reads mlp_layer_types alone
        "moe_layer_freq": (1, None),
        "scoring_func": ("sigmoid", None),
        "topk_method": ("noaux_tc", None),
    }

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
    def expert_layers(self) -> list[int]:
        """The layers with experts: all but the first, where the file does not name them."""
        return sparse_layers(self.mlp_layer_types, self.num_hidden_layers, dense=1)

    @property
    def absent_letters(self) -> str:
        """The letters of key/value heads, and of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return "G" + ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        P = self.qk_rope_head_dim
        require(P % 2 == 0, f"qk_rope_head_dim = {P} makes no pairs.")
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        _ = self.scale
        if self.expert_layers:
            check_groups(self.n_routed_experts, self.num_experts_per_tok, self.n_group, self.topk_group)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(H[K+P] D)ᵀ", "not q_lora_rank"),
    "blocks.{i}.attention.q_down.weight": ("layers.{i}.self_attn.q_a_proj.weight", "(Q D)ᵀ", "q_lora_rank"),
    "blocks.{i}.attention.q_down.bias":
        ("layers.{i}.self_attn.q_a_proj.bias", "Q", "q_lora_rank and attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_a_layernorm.weight", "Q", "q_lora_rank"),
    "blocks.{i}.attention.q_up.weight":
        ("layers.{i}.self_attn.q_b_proj.weight", "(H[K+P] Q)ᵀ", "q_lora_rank"),
    "blocks.{i}.attention.kv_down.weight": ("layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.bias", "R+P", "attention_bias"),
    "blocks.{i}.attention.kv_norm.gain": ("layers.{i}.self_attn.kv_a_layernorm.weight", "R"),
    "blocks.{i}.attention.kv_up.weight": ("layers.{i}.self_attn.kv_b_proj.weight", "(H[K+U] R)ᵀ"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HU)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.gate.e_score_correction_bias", "E", "expert_layers"),
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
    """Latent attention, then experts or dense feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Glm4MoeLiteConfig, i: int):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        attention = LatentAttention if c.q_lora_rank is None else LatentQueryAttention
        self.attention = attention(
            w / "attention",
            heads=c.num_attention_heads,
            rank=c.kv_lora_rank,
            head_dim=c.qk_nope_head_dim,
            rope_dim=c.qk_rope_head_dim,
            value_dim=c.v_head_dim,
            scale=c.scale,
            eps=1e-6,  # whatever rms_norm_eps says
            rope=c.rope.rotary(interleaved=c.rope_interleave),
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def feed_forward(w: Weights, c: Glm4MoeLiteConfig, i: int) -> Layer:
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
        gated_experts(w / "experts", c.n_routed_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class Glm4MoeLite(Decoder[Glm4MoeLiteConfig]):
    """GLM-4.7 Flash."""

    Config = Glm4MoeLiteConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"layers\.47\..*"  # multi-token prediction: predicts the token after the next

    def build(self, w: Weights, c: Glm4MoeLiteConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v3",
    kind="attention",
    changed="Latent attention in the small model of a family with grouped-query attention",
    why="a cache of 576 numbers per token and layer, for 20 heads",
    published="GLM-4.7 Flash",
    keys={"num_hidden_layers": 1},
)
