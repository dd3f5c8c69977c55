"""K-EXAONE (LG AI Research 2026, arXiv:2601.01739), 236B with 23B in use: EXAONE 4 with experts.

    x → norm → attention ──+ x → norm → experts ──+ x      (× L; the first layer is dense)
    logits = norm(x) · W       experts = shared + the 8 best of 128

| attention              | position             | norm    | feed-forward          | block      | context |
|------------------------|----------------------|---------|-----------------------|------------|---------|
| GQA 64:8; norms of q,  | RoPE; none in layers | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 262144  |
| k; window in 3 of 4    | that see all         |         |                       |            |         |

New in it, beside EXAONE 4 (exaone4.py): DeepSeek-V3's experts (deepseek_v3.py), and norms before the branches
again, as in Llama. The window is only 128 tokens: the layers that see all, with no positions, attend to what
is farther away. One more layer predicts the token after the next (multi-token prediction); it is in the file,
but not needed for the next token.
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
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows, sparse_layers
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class ExaoneMoeConfig(Config):
    """The keys of a K-EXAONE config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert. A pattern
    of letters, "LLLG", counts only where files name no layers; published ones name them.
    """

    vocab_size: int = key(102400, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(16384, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int = key(32, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    sliding_window: int | None = 4096
    sliding_window_pattern: str | int | None = 4
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: int = key(1, least=0)
    moe_intermediate_size: int = key(1024, letter="M")
    num_experts: int = key(64, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(8, chosen_of="E")
    num_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = True
    n_group: int = 1
    topk_group: int = 1
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {"scoring_func": ("sigmoid", None), "topk_method": ("noaux_tc", None)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the layers that rotate."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every n-th has none where the file does not name them."""
        L, n = self.num_hidden_layers, self.sliding_window_pattern
        usual = [FULL] * L
        if self.layer_types is None and self.sliding_window is not None:
            require(not isinstance(n, str), f"sliding_window_pattern = {n!r}, but there are no layer_types.")
            n = at_least_1("sliding_window_pattern", n if isinstance(n, int) else None)
            usual = [SLIDING if (i + 1) % n else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def rotated(self) -> tuple[bool, ...]:
        """Whether each layer rotates queries and keys: those with windows do, or all where none is in use."""
        return tuple(self.sliding_window is None or window is not None for window in self.windows)

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts, from ``first_k_dense_replace`` on where the file does not name them."""
        return sparse_layers(self.mlp_layer_types, self.num_hidden_layers, self.first_k_dense_replace)

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        super().check()
        if self.expert_layers:
            check_groups(
                self.num_experts, self.num_experts_per_tok, self.n_group, self.topk_group, "num_experts"
            )


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K"),
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

    def __init__(self, w: Weights, c: ExaoneMoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=c.windows[i],
            rope=c.rope.rotary() if c.rotated[i] else None, norms=(q_norm, k_norm),
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


def feed_forward(w: Weights, c: ExaoneMoeConfig, i: int) -> Layer:
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
        gated_experts(w / "experts", c.num_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class ExaoneMoe(Decoder[ExaoneMoeConfig]):
    """K-EXAONE 236B-A23B."""

    Config = ExaoneMoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {
        r"layers\.(\d+)\.mlp\.e_score_correction_bias": r"layers.\1.mlp.gate.e_score_correction_bias",
    }
    IGNORED = r"mtp.*"  # multi-token prediction: predicts the token after the next

    def build(self, w: Weights, c: ExaoneMoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="exaone4",
    kind="experts",
    changed="DeepSeek-V3's experts, norms before the branches, windows of 128",
    why="a token uses a tenth of the weights",
    published="236B-A23B",
    keys={
        "num_hidden_layers": 4, "hidden_size": 6144, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 128, "sliding_window": 128, "num_experts": 128, "moe_intermediate_size": 2048,
    },
)  # fmt: skip
