"""Command A+ (Cohere 2026), 218B with 25B in use: Command A with experts.

    x → norm ─┬→ attention ─┬→ + x      (× L; the first layers are dense)
              └→ experts ───┘
    logits = l · norm(x) · embeddingᵀ

| attention             | position               | norm          | feed-forward    | block    | context      |
|-----------------------|------------------------|---------------|-----------------|----------|--------------|
| GQA, window in 3 of 4 | RoPE, neighbour pairs; | LayerNorm, no | SwiGLU, experts | parallel | 8192 default |
|                       | none in every fourth   | bias; RMSNorm |                 |          |              |

New in it, beside Command A (cohere2.py): experts in the parallel block, where they and attention read the
same normed vector. The output of shared experts, which every token uses (DeepSeekMoE, Dai et al. 2024,
arXiv:2401.06066), is added to that of the chosen ones, or the mean of both is taken. The weights of the
chosen experts are the softmax of their scores, or the sigmoid of each, scaled to sum to 1 or not. The first,
dense layers can rotate queries and keys even where they see the whole text.

transformers' class has ``rope_scaling`` and does not read it; it is refused here, and ``rope_parameters`` is
read.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_top_k, top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, LayerNorm, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, known, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

DENSE, SPARSE = "dense", "sparse"
SELECTIONS = dict.fromkeys(("softmax", "sigmoid"))
COMBINATIONS = dict.fromkeys(("average", "sum"))


@dataclass(frozen=True)
class Cohere2MoeConfig(Config):
    """The keys of a Command A+ config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of an expert. Files name the kind of each layer twice, its attention in
    ``layer_types`` and its feed-forward layer in ``mlp_layer_types``, or say how many are dense.
    """

    vocab_size: int = key(256000, letter="V")
    hidden_size: int = key(8192, letter="D")
    intermediate_size: int = key(22528, letter="M")
    prefix_dense_intermediate_size: int | None = key(None, least=1)
    num_hidden_layers: int = key(40, letter="L")
    num_attention_heads: int = key(64, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    rms_norm_eps: float | None = key(None, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    logit_scale: float = 0.0625
    sliding_window: int | None = 4096
    sliding_window_pattern: int = 4
    prefix_dense_sliding_window_pattern: int = 1
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: int = key(0, least=0)
    num_experts: int = key(8, letter="E")
    num_experts_per_tok: int = key(2, chosen_of="E")
    num_shared_experts: int = key(0, letter="S", least=0)
    shared_expert_combination_strategy: str = key("average", known=COMBINATIONS)
    expert_selection_fn: str = key("softmax", known=SELECTIONS)
    norm_topk_prob: bool = True
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"rope_scaling": (None,)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.head_dim)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; where the file does not name them, every n-th has none."""
        dense, L = min(self.first_k_dense_replace, self.num_hidden_layers), self.num_hidden_layers
        named = self.layer_types is not None
        first = at_least_1("prefix_dense_sliding_window_pattern", self.prefix_dense_sliding_window_pattern)
        n = 1 if named else at_least_1("sliding_window_pattern", self.sliding_window_pattern)
        usual = [SLIDING if (i + 1) % first else FULL for i in range(dense)]
        usual += [SLIDING if (i + 1) % n else FULL for i in range(L - dense)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def rotated_layers(self) -> list[int]:
        """The layers that rotate: those with a window, and dense ones whose pattern is that none has one."""
        forced = self.dense_layers if self.prefix_dense_sliding_window_pattern == 1 else []
        return [i for i, window in enumerate(self.windows) if window is not None or i in forced]

    @property
    def dense_layers(self) -> list[int]:
        """The layers with a plain feed-forward layer."""
        kinds = self.mlp_layer_types
        if kinds is None:
            return list(range(min(self.first_k_dense_replace, self.num_hidden_layers)))
        return [i for i, kind in enumerate(kinds) if kind == DENSE]

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts."""
        return [i for i in range(self.num_hidden_layers) if i not in self.dense_layers]

    @property
    def shared_layers(self) -> list[int]:
        """The layers with shared experts."""
        return self.expert_layers if self.num_shared_experts else []

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters, F for dense layers."""
        width = self.prefix_dense_intermediate_size or self.intermediate_size
        return super().sizes | ({"F": width} if self.dense_layers else {})

    @property
    def absent_letters(self) -> str:
        """The letters of kinds of layers that do not occur."""
        return ("" if self.expert_layers else "EM") + ("" if self.shared_layers else "S") + "F"

    def check(self) -> None:
        """Refuse contradictions."""
        kinds = [] if self.mlp_layer_types is None else self.mlp_layer_types
        named, L = len(kinds), self.num_hidden_layers
        require(
            self.mlp_layer_types is None or named == L,
            f"mlp_layer_types names {named} layers, but num_hidden_layers = {L}.",
        )
        for i, kind in enumerate(kinds):
            known(dict.fromkeys((DENSE, SPARSE)), f"mlp_layer_types[{i}]", kind)
        super().check()


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
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "(MS D)ᵀ", "shared_layers"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_experts.up_proj.weight", "(MS D)ᵀ", "shared_layers"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "(D MS)ᵀ", "shared_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ", "dense_layers"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ", "dense_layers"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ", "dense_layers"),
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


def sigmoid_top_k_normed(logits: NDArray, k: int) -> tuple[NDArray[np.intp], NDArray]:
    """Route as ``sigmoid_top_k`` does, with weights that sum to 1."""
    chosen, weights = sigmoid_top_k(logits, k)
    return chosen, weights / weights.sum(axis=-1, keepdims=True)


def feed_forward(w: Weights, c: Cohere2MoeConfig, i: int) -> Layer:
    """Build layer i's experts, with shared ones where there are any, or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i in c.dense_layers:
        return GatedFeedForward(w, activation)
    sigmoid = sigmoid_top_k_normed if c.norm_topk_prob else sigmoid_top_k
    experts = Experts(
        w,
        gated_experts(w / "experts", c.num_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=top_k_softmax if c.expert_selection_fn == "softmax" else sigmoid,
    )
    if not c.num_shared_experts:
        return experts
    share = 1.0 if c.shared_expert_combination_strategy == "sum" else 0.5
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation), share)


class Block(Module):
    """Attention and experts side by side: both read the same normed copy of the stream and add to it."""

    def __init__(self, w: Weights, c: Cohere2MoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = norm_of(c)(w / "attention_norm")
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=c.windows[i],
            rope=c.rope.rotary(interleaved=True) if i in c.rotated_layers else None,
        )  # fmt: skip
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = self.attention(normed, step, state) + self.feed_forward(step.wanted(normed))
        return tap("residual", step.wanted(x) + y)


def norm_of(c: Cohere2MoeConfig) -> partial[LayerNorm] | partial[RMSNorm]:
    """Return the norm of this model: RMS norm where its epsilon is given."""
    if c.rms_norm_eps is None:
        return partial(LayerNorm, eps=c.layer_norm_eps)
    return partial(RMSNorm, eps=c.rms_norm_eps)


class Cohere2Moe(Decoder[Cohere2MoeConfig]):
    """Command A+."""

    Config = Cohere2MoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: Cohere2MoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = norm_of(c)(w / "final_norm")
        self.head = Linear(w / "head")

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and scale: (B, T, D) → (B, T, V)."""
        return self.head(x) * np.float32(self.config.logit_scale)


FACTS = Facts(
    grew_from="cohere2",
    kind="experts",
    changed="Experts beside attention, some of them for every token",
    why="many weights, of which each token uses few",
    published="A+ by default sizes",
    keys={"num_hidden_layers": 4},
)
