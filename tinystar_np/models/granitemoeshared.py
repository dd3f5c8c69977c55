"""GraniteMoeShared (IBM 2025): Granite with experts, one of them shared.

    x₀ = e · embedding
    x → norm → attention → · r ──+ x → norm → feed-forward → · r ──+ x      (× L)
    logits = norm(x) · W / l                       feed-forward = experts + shared

| attention | position | norm    | feed-forward                  | block      | context         |
|-----------|----------|---------|-------------------------------|------------|-----------------|
| GQA       | RoPE     | RMSNorm | SwiGLU; experts + shared      | sequential | 2048 by default |

New in it, beside Granite with experts (granitemoe.py): a shared expert, which every token uses, learns what
all tokens need, and the others can specialize (DeepSeekMoE, Dai et al. 2024, arXiv:2401.06066). It has a
width of its own; with a width of 0 there is none. IBM Research published one such model, with 7 billion
weights, of which a token uses 1 billion. Granite 4 (granitemoehybrid.py) is this with Mamba 2 in most layers.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GraniteMoeSharedConfig(Config):
    """The keys of a GraniteMoeShared config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert, ``shared_intermediate_size`` that of the shared one.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    num_local_experts: int = key(8, letter="E")
    num_experts_per_tok: int | None = key(2, chosen_of="E")
    shared_intermediate_size: int = key(0, letter="J", least=0)
    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = key(1.0, not_zero="but the logits are divided by it")
    tie_word_embeddings: bool = False

    @property
    def absent_letters(self) -> str:
        """The letter of the shared expert, where there is none."""
        return "" if self.shared_intermediate_size else "J"

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


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
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.block_sparse_moe.router.layer.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.block_sparse_moe.input_linear.weight[:F]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.block_sparse_moe.input_linear.weight[F:]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.output_linear.weight", "E (D F)ᵀ"),
    "blocks.{i}.feed_forward.gate.weight":
        ("layers.{i}.shared_mlp.input_linear.weight[:J]", "(2J D)ᵀ", "shared_intermediate_size"),
    "blocks.{i}.feed_forward.up.weight":
        ("layers.{i}.shared_mlp.input_linear.weight[J:]", "(2J D)ᵀ", "shared_intermediate_size"),
    "blocks.{i}.feed_forward.down.weight":
        ("layers.{i}.shared_mlp.output_linear.weight", "(D J)ᵀ", "shared_intermediate_size"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the stream and adds r times its result."""

    def __init__(self, w: Weights, c: GraniteMoeSharedConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=c.attention_multiplier,
            rope=c.rope.rotary(),
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c)
        self.residual_multiplier = np.float32(c.residual_multiplier)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        r = self.residual_multiplier
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_scaled", r * self.attention(normed, step, state))
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + tap("feed_forward_scaled", r * self.feed_forward(normed)))


def feed_forward(w: Weights, c: GraniteMoeSharedConfig) -> Layer:
    """Build the experts, and the shared one whose output is added to theirs."""
    activation = ACTIVATIONS[c.hidden_act]
    experts = gated_experts(w / "experts", c.num_local_experts, activation)
    routed = Experts(w, experts, per_token=c.num_experts_per_tok or 0, routing=top_k_softmax)
    return ExpertsAndShared(routed, GatedFeedForward(w, activation)) if c.shared_intermediate_size else routed


class GraniteMoeShared(Decoder[GraniteMoeSharedConfig]):
    """Granite with experts and a shared one: moe-7b-1b-active-shared-experts of IBM Research."""

    Config = GraniteMoeSharedConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("V", "J"))
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # transformers 5's names in memory, which save_pretrained changes back
        r"(.*\.block_sparse_moe)\.router\.weight": r"\1.router.layer.weight",
        r"(.*\.block_sparse_moe)\.experts\.gate_up_proj": r"\1.input_linear.weight",
        r"(.*\.block_sparse_moe)\.experts\.down_proj": r"\1.output_linear.weight",
    }

    def build(self, w: Weights, c: GraniteMoeSharedConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", tokens * np.float32(self.config.embedding_multiplier))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and divide: (B, T, D) → (B, T, V)."""
        return self.head(x) / np.float32(self.config.logits_scaling)


FACTS = Facts(
    grew_from="granitemoe",
    kind="experts",
    changed="A shared expert for every token",
    why="what all tokens need is learned once",
    published="default sizes",
)
