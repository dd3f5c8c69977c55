"""Solar Open 100B (Upstage 2026, arXiv:2601.07022): GLM-4.5-Air with experts in every layer.

    x → norm → attention ──+ x → norm → experts ──+ x      (× L)
    logits = norm(x) · W       experts = shared + the 8 best of 128

| attention | position   | norm    | feed-forward          | block      | context |
|-----------|------------|---------|-----------------------|------------|---------|
| GQA 64:8  | RoPE, YaRN | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 131072  |

New in it: a model for Korean and English, much of whose training text was written by models, since there is
little Korean. The mathematics is GLM-4.5-Air's (glm4_moe.py), simplified: whole heads rotate, queries and
keys are not normed, and every layer has experts, the first one too. A token uses 12 of 102 billion weights.
"""

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
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class SolarOpenConfig(Config):
    """The keys of a Solar Open config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(196608, letter="V")
    hidden_size: int = key(4096, letter="D")
    num_hidden_layers: int = key(48, letter="L")
    num_attention_heads: int = key(64, letter="H")
    num_key_value_heads: int = key(8, letter="G")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(1_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    moe_intermediate_size: int = key(1280, letter="F")
    n_routed_experts: int = key(128, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(8, chosen_of="E")
    n_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 1.0
    norm_topk_prob: bool = True
    n_group: int = 1
    topk_group: int = 1
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {
        "first_k_dense_replace": (0, None),
        "use_qk_norm": (False, None),
        "scoring_func": ("sigmoid", None),
        "topk_method": ("noaux_tc", None),
    }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        super().check()
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
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.gate.e_score_correction_bias", "E"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "(FS D)ᵀ"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_experts.up_proj.weight", "(FS D)ᵀ"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "(D FS)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:F]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[F:]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D F)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: SolarOpenConfig):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def feed_forward(w: Weights, c: SolarOpenConfig) -> ExpertsAndShared:
    """Build a layer's experts and the shared ones, these as one layer."""
    activation = ACTIVATIONS[c.hidden_act]
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


class SolarOpen(Decoder[SolarOpenConfig]):
    """Solar Open 100B."""

    Config = SolarOpenConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: SolarOpenConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="glm4_moe",
    kind="block",
    changed="Whole heads rotate, and every layer has experts",
    why="one kind of layer",
    published="100B",
    keys={"num_hidden_layers": 1},
)
