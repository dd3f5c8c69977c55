"""Qwen1.5-MoE and Qwen2-57B-A14B (Yang et al. 2024, arXiv:2407.10671): small experts and a shared one.

    x → norm → attention ──+ x → norm ─┬→ k of E experts ───────────┬──+ x      (× L)
                                       └→ shared expert · σ(gate) ──┘
    logits = norm(x) · W

| attention            | position | norm    | feed-forward             | block      | context |
|----------------------|----------|---------|--------------------------|------------|---------|
| MHA; GQA; biased qkv | RoPE     | RMSNorm | SwiGLU, 4 of 60 + shared | sequential | 32768   |

New in it: experts an eighth as wide as Mixtral's and eight times as many (60 in the first model, made by
cutting up the layers of a dense Qwen, after Dai et al. 2024, arXiv:2401.06066). Every token also uses a
shared expert, whose output is multiplied by a gate. Experts are weighted by the softmax over all of them, and
the weights of the chosen do not sum to 1. A config may keep some layers dense. Queries, keys and values have
biases, as in all Qwen before the third.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k, top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndGatedShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Qwen2MoeConfig(Config):
    """The keys of a Qwen2-MoE config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert,
    ``shared_expert_intermediate_size`` that of the shared one.
    """

    vocab_size: int = key(151936, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(5632, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(16, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    qkv_bias: bool = True
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    num_experts: int = key(60, letter="E")
    num_experts_per_tok: int = key(4, chosen_of="E")
    moe_intermediate_size: int = key(1408, letter="M")
    shared_expert_intermediate_size: int = key(5632, letter="C")
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Ignore the window of files that do not use it."""
        return super().from_dict(raw if raw.get("use_sliding_window") else {**raw, "sliding_window": None})

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer; without ``layer_types``, every second before ``max_window_layers``."""
        L, window = self.num_hidden_layers, self.sliding_window
        first = 0 if window is None else self.max_window_layers
        usual = [SLIDING if i % 2 == 0 and i < first else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, window)

    @property
    def expert_layers(self) -> Sequence[int]:
        """The layers with experts: every n-th, except those that are listed as dense."""
        if self.num_experts == 0:
            return []
        sparse = [i for i in range(self.num_hidden_layers) if i not in (self.mlp_only_layers or ())]
        n = at_least_1("decoder_sparse_step", self.decoder_sparse_step) if sparse else 1
        return [i for i in sparse if (i + 1) % n == 0]

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers, or of experts, where there are none."""
        count = len(self.expert_layers)
        return ("" if count else "EMC") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        dense = self.mlp_only_layers
        whole = all(isinstance(i, int) and not isinstance(i, bool) for i in dense or ())
        require(whole, f"mlp_only_layers = {shown(dense)}, but it must be a list of layers' numbers.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "qkv_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "qkv_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "qkv_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
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
    """Attention, then experts or a dense feed-forward layer: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Qwen2MoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
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


def feed_forward(w: Weights, c: Qwen2MoeConfig, i: int) -> Layer:
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


class Qwen2Moe(Decoder[Qwen2MoeConfig]):
    """Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B."""

    Config = Qwen2MoeConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "C"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: Qwen2MoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen2",
    kind="experts",
    changed="Many small experts, and a shared one with a gate",
    why="what all tokens need is learned once",
    published="1.5-MoE-A2.7B",
)
