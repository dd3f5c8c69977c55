"""DeepSeek-V3 and R1 (DeepSeek-AI 2024, arXiv:2412.19437; 2025, arXiv:2501.12948), 671B.

    x → norm → latent attention ──+ x → norm → experts ──+ x      (× L; the first 3 layers are dense)
    logits = norm(x) · W             experts = shared + the 8 best of 256

| attention       | position                | norm    | feed-forward          | block      | context       |
|-----------------|-------------------------|---------|-----------------------|------------|---------------|
| latent, R = 512 | RoPE on 64 of 192, yarn | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 163840 (yarn) |

New in it: experts with even loads and hardly a penalty in the loss. Each expert's score is a sigmoid; experts
are chosen by score plus correction, and weighted by the score alone (``sigmoid_grouped_top_k`` in
kernels/experts.py). One more layer was trained to predict the token after the next; it is in the file, but
not needed for the next token. All else is DeepSeek-V2's (deepseek_v2.py).
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
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class DeepseekV3Config(Config):
    """The keys of a DeepSeek-V3 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups. ``head_dim``,
    which transformers may write, is the width of the part of a head that is rotated.
    """

    vocab_size: int = key(129280, letter="V")
    hidden_size: int = key(7168, letter="D")
    intermediate_size: int = key(18432, letter="F")
    num_hidden_layers: int = key(61, letter="L")
    num_attention_heads: int = key(128, letter="H")
    num_key_value_heads: int | None = 128
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int | None = key(1536, letter="Q")
    head_dim: int | None = None
    qk_nope_head_dim: int = key(128, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    rope_interleave: bool | None = True
    attention_bias: bool = False
    moe_intermediate_size: int = key(2048, letter="M")
    n_routed_experts: int = key(256, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int | None = key(8, chosen_of="E")
    n_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool | None = True
    topk_method: str | None = "noaux_tc"
    n_group: int | None = 8
    topk_group: int | None = 4
    first_k_dense_replace: int | None = key(3, least=0)
    moe_layer_freq: int | None = 1
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {"scoring_func": ("sigmoid", None)}

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
        """The layers with experts: every n-th one from ``first_k_dense_replace`` on."""
        start = self.first_k_dense_replace or 0
        n = 1 if self.moe_layer_freq is None else at_least_1("moe_layer_freq", self.moe_layer_freq)
        return [i for i in range(start, self.num_hidden_layers) if i % n == 0]

    @property
    def absent_letters(self) -> str:
        """The letters of key/value heads, and of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return "G" + ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        K, J = self.head_dim, self.qk_rope_head_dim
        require(K in (None, J), f"head_dim = {K} is not qk_rope_head_dim = {J}, which alone is rotated.")
        require(J % 2 == 0, f"qk_rope_head_dim = {J} makes no pairs.")
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        _ = self.scale
        if self.expert_layers:
            method = self.topk_method
            require(method in ("noaux_tc", None), f"topk_method = {method!r} is not noaux_tc.")
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

    def __init__(self, w: Weights, c: DeepseekV3Config, i: int):
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
            eps=1e-6,  # whatever the other norms have
            rope=c.rope.rotary(interleaved=bool(c.rope_interleave)),
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


def feed_forward(w: Weights, c: DeepseekV3Config, i: int) -> Layer:
    """Build layer i's experts and the shared ones, these as one layer; or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    routing = partial(
        sigmoid_grouped_top_k,
        correction=w["router.correction"],
        groups=c.n_group or 1,
        kept=c.topk_group or 1,
        normed=bool(c.norm_topk_prob),
        factor=c.routed_scaling_factor,
    )
    experts = Experts(
        w,
        gated_experts(w / "experts", c.n_routed_experts, activation),
        per_token=c.num_experts_per_tok or 0,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class DeepseekV3(Decoder[DeepseekV3Config]):
    """DeepSeek-V3, V3.1 and R1, and the models that are built like them (Moonlight, Kimi K2)."""

    Config = DeepseekV3Config
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"layers\.61\..*"  # the layer that predicts the token after the next

    def build(self, w: Weights, c: DeepseekV3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v2",
    kind="experts",
    changed="Sigmoid router scores, and a correction that only chooses experts",
    why="256 experts with even loads and hardly a penalty in the loss",
    published="V3",
    keys={"num_hidden_layers": 1},
)
