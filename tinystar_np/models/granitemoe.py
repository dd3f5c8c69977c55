"""Granite 3 with experts (IBM 2024), and PowerMoE before it (Shen et al. 2024, arXiv:2408.13359).

    x₀ = e · embedding
    x → norm → attention → · r ──+ x → norm → experts → · r ──+ x      (× L)
    logits = norm(x) · W / l

| attention | position | norm    | feed-forward          | block      | context                         |
|-----------|----------|---------|-----------------------|------------|---------------------------------|
| GQA       | RoPE     | RMSNorm | SwiGLU, 8 of 32 or 40 | sequential | 4096 in 3.0, 131072 from 3.1 on |

New in it, beside Granite's four multipliers (granite.py), which it has too: many small experts, 512 wide, of
which each token uses eight. A token's weights are the softmax over the scores of its eight alone. Experts
have no limit of tokens in training, so that none is dropped, as none is here. Tan et al. 2024 (ScatterMoE),
arXiv:2403.08245.
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
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GraniteMoeConfig(Config):
    """The keys of a Granite-MoE config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert.
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
    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = key(1.0, not_zero="but the logits are divided by it")
    tie_word_embeddings: bool = False

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
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the stream and adds r times its result."""

    def __init__(self, w: Weights, c: GraniteMoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=c.attention_multiplier,
            rope=c.rope.rotary(),
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        experts = gated_experts(w / "feed_forward.experts", c.num_local_experts, ACTIVATIONS[c.hidden_act])
        self.feed_forward = Experts(
            w / "feed_forward", experts, per_token=c.num_experts_per_tok or 0, routing=top_k_softmax
        )
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


class GraniteMoe(Decoder[GraniteMoeConfig]):
    """PowerMoE-3B and Granite 3.0 and 3.1 with experts, 1B and 3B, of which a token uses 400M and 800M."""

    Config = GraniteMoeConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # transformers 5's names in memory, which save_pretrained changes back
        r"(.*\.block_sparse_moe)\.router\.weight": r"\1.router.layer.weight",
        r"(.*\.block_sparse_moe)\.experts\.gate_up_proj": r"\1.input_linear.weight",
        r"(.*\.block_sparse_moe)\.experts\.down_proj": r"\1.output_linear.weight",
    }

    def build(self, w: Weights, c: GraniteMoeConfig) -> None:
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
    grew_from="granite",
    kind="experts",
    changed="32 or 40 small experts, 8 for a token",
    why="1 to 3 billion weights for the work of a few hundred million",
    published="3.1 3B-A800M",
    keys={"hidden_size": 1536, "num_attention_heads": 24, "num_key_value_heads": 8},
)
