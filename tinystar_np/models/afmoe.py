"""Trinity (Arcee AI 2025; 2026, arXiv:2602.17004): gated attention, windows, experts.

    x → norm → attention, gated → norm ──+ x → norm → experts → norm ──+ x      (× L; first 2 dense in Mini)
    logits = norm(x) · W                                experts = shared + the 8 best of 128

| attention                 | position             | norm    | feed-forward      | block        | context |
|---------------------------|----------------------|---------|-------------------|--------------|---------|
| GQA; norms of q, k; gate; | RoPE; none in layers | RMSNorm | SwiGLU; 1 + 8 of  | norms around | 131072  |
| window 2048 in 3 of 4     | that see all         |         | 128 experts       | the branches |         |

New in it: the combination; each part was known. The output of each head is multiplied by a gate, the sigmoid
of a linear map of the token (Qiu et al. 2025, arXiv:2505.06708): a head that finds nothing can output zero,
so that the first token need not serve as an attention sink. Layers with a window rotate queries and keys and
the others have no positions, as in EXAONE 4 (exaone4.py); norms stand before and after each branch, as in
Gemma 2 (gemma2.py); the experts and the correction of their router are DeepSeek-V3's (deepseek_v3.py), in one
group. Embeddings are multiplied by √D where the config says so. The numbers in the table are Mini's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.gated_attention import SeparatelyGatedAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class AfmoeConfig(Config):
    """The keys of a Trinity config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    """

    vocab_size: int = key(200192, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(6144, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(16384, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    global_attn_every_n_layers: int | None = 4
    sliding_window: int | None = 1024
    layer_types: list[str] | None = None
    num_dense_layers: int = key(1, least=0)
    moe_intermediate_size: int = key(1408, letter="M")
    num_experts: int = key(64, letter="E")
    num_experts_per_tok: int = key(6, chosen_of="E")
    num_shared_experts: int = key(2, letter="S")
    route_scale: float = 1.0
    mup_enabled: bool | None = False
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {
        "score_func": ("sigmoid", None),
        "route_norm": (True, None),
        "n_group": (1, None),
        "topk_group": (1, None),
    }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the layers with windows."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every n-th has none where the file does not name them."""
        L, usual = self.num_hidden_layers, [FULL] * self.num_hidden_layers
        if self.layer_types is None:
            n = at_least_1("global_attn_every_n_layers", self.global_attn_every_n_layers)
            usual = [SLIDING if (i + 1) % n else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def expert_layers(self) -> Sequence[int]:
        """The layers with experts, from ``num_dense_layers`` on."""
        return range(self.num_dense_layers, self.num_hidden_layers)

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")


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
    "blocks.{i}.attention.gate.weight": ("layers.{i}.self_attn.gate_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention_post_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.pre_mlp_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_mlp_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.router.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction": ("layers.{i}.mlp.expert_bias", "E", "expert_layers"),
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
    """Each branch reads a normed copy of the residual stream, norms its result, and adds it."""

    def __init__(self, w: Weights, c: AfmoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        window = c.windows[i]
        self.attention_norm = norm(w / "attention_norm")
        self.attention = SeparatelyGatedAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=window,
            rope=None if window is None else c.rope.rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
        )  # fmt: skip
        self.attention_post_norm = norm(w / "attention_post_norm")
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(normed, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(normed)))
        return tap("residual", x + y)


def feed_forward(w: Weights, c: AfmoeConfig, i: int) -> Layer:
    """Build layer i's experts and the shared ones, these as one layer; or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    experts = Experts(
        w,
        gated_experts(w / "experts", c.num_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=partial(sigmoid_grouped_top_k, correction=w["router.correction"], factor=c.route_scale),
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class Afmoe(Decoder[AfmoeConfig]):
    """Trinity Nano, Mini and Large."""

    Config = AfmoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: AfmoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by √D where ``mup_enabled``: ids (B, T) → (B, T, D)."""
        x = tap("embedding.tokens", self.embedding(ids))
        return tap(
            "embedding", x * np.sqrt(np.float32(self.config.hidden_size)) if self.config.mup_enabled else x
        )


FACTS = Facts(
    grew_from="exaone4",
    kind="attention",
    changed="A gate on each head's output, experts, norms before the branches too",
    why="a head that finds nothing can output zero",
    published="Mini",
    keys={
        "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 4, "sliding_window": 2048,
        "num_experts": 128, "num_experts_per_tok": 8, "num_shared_experts": 1, "moe_intermediate_size": 1024,
    },
)  # fmt: skip
