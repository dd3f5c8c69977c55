"""dots.llm1 (rednote 2025, arXiv:2506.05767), 142B: DeepSeek-V3's experts, Qwen3's attention.

    x → norm → attention ──+ x → norm → experts ──+ x      (× L; the first layer is dense)
    logits = norm(x) · W       experts = 2 shared + the 6 best of 128

| attention       | position | norm    | feed-forward          | block      | context |
|-----------------|----------|---------|-----------------------|------------|---------|
| MHA; norms of q | RoPE     | RMSNorm | SwiGLU; 2 + 6 experts | sequential | 32768   |
| and k           |          |         |                       |            |         |

New in it: the combination, and its text; the block has no part of its own. Attention is Qwen3's (qwen3.py),
with a key/value head for every query head; experts and their router are DeepSeek-V3's (deepseek_v3.py), in
one group. It was trained on 11.2 trillion tokens, none of them synthetic. A config can give its last layers
windows; the published model has none.
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
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Dots1Config(Config):
    """The keys of a dots.llm1 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert. Files
    without ``n_routed_experts`` have dense layers alone.
    """

    vocab_size: int = key(152064, letter="V")
    hidden_size: int = key(4608, letter="D")
    intermediate_size: int = key(10944, letter="F")
    num_hidden_layers: int = key(62, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(32, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int | None = 62
    layer_types: list[str] | None = None
    moe_intermediate_size: int = key(1408, letter="M")
    n_routed_experts: int | None = key(None, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int | None = key(None, chosen_of="E")
    n_shared_experts: int | None = key(None, letter="S")
    routed_scaling_factor: float = 1.0
    norm_topk_prob: bool | None = False
    n_group: int | None = 1
    topk_group: int | None = 1
    first_k_dense_replace: int | None = key(0, least=0)
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {
        "moe_layer_freq": (1, None),
        "scoring_func": ("noaux_tc", "sigmoid", None),
        "topk_method": ("noaux_tc", None),
    }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; without ``layer_types``, those from ``max_window_layers`` on have one."""
        L, last_full = self.num_hidden_layers, self.max_window_layers
        named = self.layer_types is not None or self.sliding_window is None
        require(named or last_full is not None, "max_window_layers = None, but there are no layer_types.")
        last_full = L if named or last_full is None else last_full
        usual = [SLIDING if i >= last_full else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def expert_layers(self) -> Sequence[int]:
        """The layers with experts, from ``first_k_dense_replace`` on."""
        first = self.num_hidden_layers if self.n_routed_experts is None else self.first_k_dense_replace
        return range(first or 0, self.num_hidden_layers)

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        super().check()
        if self.expert_layers:
            require(self.n_shared_experts is not None, "n_shared_experts = None, but there are experts.")
            check_groups(self.n_routed_experts or 0, self.num_experts_per_tok, self.n_group, self.topk_group)


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
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
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
    """Attention, then experts or a dense feed-forward layer: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Dots1Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i],
            norms=(q_norm, k_norm),
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


def feed_forward(w: Weights, c: Dots1Config, i: int) -> Layer:
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
        gated_experts(w / "experts", c.n_routed_experts or 0, activation),
        per_token=c.num_experts_per_tok or 0,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class Dots1(Decoder[Dots1Config]):
    """dots.llm1, base and instruct."""

    Config = Dots1Config
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: Dots1Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3",
    kind="experts",
    changed="DeepSeek-V3's experts with Qwen3's attention",
    why="a token uses a tenth of the weights",
    published="llm1",
    keys={
        "num_hidden_layers": 1,
        "hidden_size": 4096,
        "n_routed_experts": 128,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
    },
)
