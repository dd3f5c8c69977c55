"""ERNIE 4.5 with experts, 21B-A3B and 300B-A47B (Baidu 2025, https://yiyan.baidu.com/blog/publication).

    x → norm → attention ──+ x → norm → experts ──+ x      (× L; the first layer is dense, 3 in 300B)
    logits = norm(x) · embeddingᵀ       experts = 2 shared + the 6 best of 64; the 8 best of 64 in 300B

| attention      | position            | norm    | feed-forward     | block      | context |
|----------------|---------------------|---------|------------------|------------|---------|
| GQA 20:4; 64:8 | RoPE, neighbour     | RMSNorm | SwiGLU; 2 + 6    | sequential | 131072  |
|                | pairs               |         | experts, or 8    |            |         |

New in it: DeepSeek-V3's correction (deepseek_v3.py), which balances the load without an auxiliary loss (Wang
et al. 2024, arXiv:2408.15664), on softmax scores. The router's logits go through a softmax over all experts;
the correction is added for the choice alone; the softmax scores of the chosen experts, scaled to sum to 1,
are their weights (``softmax_corrected_top_k`` in kernels/experts.py). All else is the dense ERNIE 4.5's
(ernie4_5.py). The family also has models that read images, with separate experts for these; they are not
here.
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
from tinystar_np.kernels.experts import softmax_corrected_top_k
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Ernie45MoeConfig(Config):
    """The keys of an ERNIE 4.5 MoE config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    """

    vocab_size: int = key(103424, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(12288, letter="F")
    num_hidden_layers: int = key(28, letter="L")
    num_attention_heads: int = key(20, letter="H")
    num_key_value_heads: int | None = key(4, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    use_bias: bool | None = False
    moe_intermediate_size: int = key(1536, letter="M")
    moe_num_experts: int = key(64, letter="E", aliases=("num_experts",))
    moe_k: int = key(6, chosen_of="E", aliases=("num_experts_per_tok",))
    moe_num_shared_experts: int = key(2, letter="S")
    moe_layer_start_index: int = 1
    moe_layer_end_index: int = -1
    moe_layer_interval: int = 1
    moe_norm_min: float = key(1e-12, above=0)
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def expert_layers(self) -> Sequence[int]:
        """Every n-th layer, from the first to the last that are named; −1 names the model's last."""
        n = at_least_1("moe_layer_interval", self.moe_layer_interval)
        last = self.num_hidden_layers - 1
        if self.moe_layer_end_index != -1:
            last = min(last, self.moe_layer_end_index)
        return [i for i in range(max(self.moe_layer_start_index, 0), last + 1) if (i + 1) % n == 0]

    @property
    def shared_layers(self) -> Sequence[int]:
        """The layers that have shared experts as well."""
        return self.expert_layers if self.moe_num_shared_experts > 0 else []

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers, experts or shared ones where there are none."""
        count = len(self.expert_layers)
        shared = "" if self.shared_layers else "S"
        return shared + ("" if count else "EM") + ("F" if count == self.num_hidden_layers else "")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "use_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "use_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "use_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "use_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.moe_statics.e_score_correction_bias", "1 E", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "(MS D)ᵀ", "shared_layers"),
    "blocks.{i}.feed_forward.shared.gate.bias":
        ("layers.{i}.mlp.shared_experts.gate_proj.bias", "MS", "shared_layers and use_bias"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_experts.up_proj.weight", "(MS D)ᵀ", "shared_layers"),
    "blocks.{i}.feed_forward.shared.up.bias":
        ("layers.{i}.mlp.shared_experts.up_proj.bias", "MS", "shared_layers and use_bias"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "(D MS)ᵀ", "shared_layers"),
    "blocks.{i}.feed_forward.shared.down.bias":
        ("layers.{i}.mlp.shared_experts.down_proj.bias", "D", "shared_layers and use_bias"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.gate.bias":
        ("layers.{i}.mlp.gate_proj.bias", "F", "not expert_layers and use_bias"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.bias":
        ("layers.{i}.mlp.up_proj.bias", "F", "not expert_layers and use_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.bias":
        ("layers.{i}.mlp.down_proj.bias", "D", "not expert_layers and use_bias"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
    "head.bias": ("lm_head.bias", "V", "use_bias"),
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

    def __init__(self, w: Weights, c: Ernie45MoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(interleaved=True)
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


def feed_forward(w: Weights, c: Ernie45MoeConfig, i: int) -> Layer:
    """Build layer i's experts and the shared ones, these as one layer; or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    experts = Experts(
        w,
        gated_experts(w / "experts", c.moe_num_experts, activation),
        per_token=c.moe_k,
        routing=partial(
            softmax_corrected_top_k, correction=w["router.correction"].reshape(-1), least=c.moe_norm_min
        ),
    )
    if i not in c.shared_layers:
        return experts
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class Ernie45Moe(Decoder[Ernie45MoeConfig]):
    """ERNIE-4.5-21B-A3B and 300B-A47B."""

    Config = Ernie45MoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # transformers' names in memory, which save_pretrained changes back
        r"layers\.(\d+)\.mlp\.gate\.moe_statics\.(.+)": r"layers.\1.mlp.moe_statics.\2",
    }
    IGNORED = r"(mtp|model\.mtp).*"  # multi-token prediction: predicts the token after the next

    def build(self, w: Weights, c: Ernie45MoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="ernie4_5",
    kind="experts",
    changed="Experts chosen by a corrected softmax, and shared ones",
    why="an even load without an auxiliary loss, and weights that sum to 1",
    published="21B-A3B",
    keys={"num_hidden_layers": 1},
)
