"""GLM-4.5 (Zhipu AI and Tsinghua 2025, arXiv:2508.06471), 355B or, as Air, 106B: GQA and experts.

    x → norm → attention ──+ x → norm → experts ──+ x      (× L; the first 3 layers are dense, 1 in Air)
    logits = norm(x) · W       experts = shared + the 8 best of 160, of 128 in Air

| attention               | position           | norm    | feed-forward          | block      | context |
|-------------------------|--------------------|---------|-----------------------|------------|---------|
| GQA 96:8; norms of q, k | RoPE, half of each | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 131072  |
| (not in Air)            | head               |         |                       |            |         |

New in it: DeepSeek-V3's experts (deepseek_v3.py) with grouped-query attention. The makers chose a deeper and
narrower model than others of its size, which reasons better, and about two and a half times as many query
heads as are usual: 96 heads of width 128 at a model width of 5120. That did not lower the training loss, but
raised scores on reasoning benchmarks. Norms of queries and keys bound the scores. Half of each head is
rotated, in pairs of halves as in Llama, no longer in neighbours as in the earlier GLMs (glm.py, glm4.py). One
more layer predicts the token after the next (multi-token prediction); it is in the file, but not needed for
the next token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Glm4MoeConfig(Config):
    """The keys of a GLM-4.5 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    """

    vocab_size: int = key(151552, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(10944, letter="F")
    num_hidden_layers: int = key(46, letter="L")
    num_attention_heads: int = key(96, letter="H")
    num_key_value_heads: int = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.5  # null rotates whole heads
    attention_bias: bool = False
    use_qk_norm: bool = False
    moe_intermediate_size: int = key(1408, letter="M")
    n_routed_experts: int = key(128, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(8, chosen_of="E")
    n_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 1.0
    norm_topk_prob: bool = True
    n_group: int = 1
    topk_group: int = 1
    first_k_dense_replace: int = key(1, least=0)
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {"scoring_func": ("sigmoid", None), "topk_method": ("noaux_tc", None)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for a part of each head."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)

    @property
    def expert_layers(self) -> Sequence[int]:
        """The layers with experts, from ``first_k_dense_replace`` on."""
        return range(self.first_k_dense_replace, self.num_hidden_layers)

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def _check_heads(self) -> None:
        """Refuse heads without a group; where the width of a head is not given, D/H is rounded down."""
        H, G = self.num_attention_heads, self.num_key_value_heads
        divides = G >= 1 and H % G == 0
        require(
            divides, f"num_attention_heads = {H} cannot be divided among num_key_value_heads = {G} groups."
        )

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        super().check()
        if self.expert_layers:
            check_groups(self.n_routed_experts, self.num_experts_per_tok, self.n_group, self.topk_group)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K", "use_qk_norm"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K", "use_qk_norm"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
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
    """Attention, then experts or a dense feed-forward layer: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Glm4MoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")) if c.use_qk_norm else None,
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def feed_forward(w: Weights, c: Glm4MoeConfig, i: int) -> Layer:
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


class Glm4Moe(Decoder[Glm4MoeConfig]):
    """GLM-4.5, GLM-4.5-Air, GLM-4.6 and GLM-4.7."""

    Config = Glm4MoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"layers\.(46|92)\..*"  # multi-token prediction, in Air and in the others

    def build(self, w: Weights, c: Glm4MoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v3",
    kind="attention",
    changed="DeepSeek-V3's experts with grouped attention, half of each head rotated",
    why="deeper and narrower, with many heads: better reasoning for the same work",
    published="4.5",
    keys={"num_hidden_layers": 1, "head_dim": 128, "num_key_value_heads": 8},
)
