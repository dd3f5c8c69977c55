"""Command R and R+ (Cohere 2024): Llama's parts, side by side.

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = l · norm(x) · embeddingᵀ

| attention           | position         | norm                    | activation | block    | context |
|---------------------|------------------|-------------------------|------------|----------|---------|
| MHA in R, GQA in R+ | RoPE, neighbours | LayerNorm, without bias | SwiGLU     | parallel | 131072  |

New in it: PaLM's block (Chowdhery et al. 2022, arXiv:2204.02311) in an open model: one norm feeds both
branches, nothing has a bias, the embedding is the output layer, and l = ``logit_scale`` makes its logits
smaller. R+ norms queries and keys, each head with gains of its own, so that the scores of a wide model stay
bounded (Dehghani et al. 2023, arXiv:2302.05442). Names of weights are Llama's (llama.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.layers import LayerNorm, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable, without


@dataclass(frozen=True)
class CohereConfig(LlamaConfig):
    """Llama's keys with Cohere's defaults, the scale of the logits, and the norms of queries and keys."""

    UNUSED: ClassVar[Sequence[str]] = ("rms_norm_eps", "mlp_bias")

    vocab_size: int = 256000
    hidden_size: int = 8192
    intermediate_size: int = 22528
    num_hidden_layers: int = 40
    num_attention_heads: int = 64
    max_position_embeddings: int = 8192
    layer_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    tie_word_embeddings: bool = True
    logit_scale: float = 0.0625
    use_qk_norm: bool | None = False

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return True


QUERY_AND_KEY_NORMS: WeightTable = {
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "H K"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "G K"),
}


class Cohere(Llama):
    """Command R, Command R+, and Aya 23 and Expanse."""

    Config = CohereConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's table without a second norm, and with those of queries and keys where there are such."""
        rows = without(Llama.weight_table(config), "feed_forward_norm")
        normed = isinstance(config, CohereConfig) and config.use_qk_norm
        return {**rows, **(QUERY_AND_KEY_NORMS if normed else {})}

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.layer_norm_eps)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Turn neighbours."""
        return {**super().attention(i, w), "rope": self.config.rope.rotary(interleaved=True)}

    def score(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and scale: (B, T, D) → (B, T, V)."""
        logits = super().score(x)
        logits *= np.float32(self.config.logit_scale)
        return logits


FACTS = Facts(
    grew_from="gptj",
    kind="block",
    changed="Gated feed-forward, no biases, a tied output layer, scaled logits",
    why="PaLM's block in an open model",
    published="Command R",
)
