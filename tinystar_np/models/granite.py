"""Granite 3, dense (IBM 2024): Llama with four multipliers.

    x₀ = e · embedding
    x → norm → attention → · r ──+ x → norm → feed-forward → · r ──+ x      (× L)
    logits = norm(x) · W / l

| attention | position | norm    | activation | block      | context                         |
|-----------|----------|---------|------------|------------|---------------------------------|
| GQA       | RoPE     | RMSNorm | SwiGLU     | sequential | 4096 in 3.0, 131072 from 3.1 on |

New in it: the multipliers, which are all that sets it apart from Llama (llama.py). e makes embeddings larger,
r makes what each layer adds to the stream smaller, 1/l flattens the logits, and the scale of the attention
scores is given: 1/K in the models that IBM published, where others take 1/√K. Set so, activations keep their
size as a model is widened, and the learning rate that is best for a small model is best for a large one: it
is searched for where searching is cheap. Yang et al. 2022, arXiv:2203.03466; Shen et al. 2024,
arXiv:2408.13359.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.configs.config import DecoderConfig
from tinystar_np.layers import SequentialBlock, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import Llama, LlamaConfig
from tinystar_np.state import Span
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GraniteConfig(LlamaConfig):
    """Llama's keys, and the multipliers; defaults as in transformers."""

    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0


class Granite(Llama):
    """Granite 3.0 to 3.3, dense, in 2B and 8B, and the code models built like them."""

    Config: ClassVar[type[DecoderConfig]] = GraniteConfig

    def embed(self, ids: NDArray[np.integer], span: Span) -> NDArray:
        """Look the tokens up and multiply."""
        tokens = tap("embedding.tokens", self.tokens(ids))
        return tap("embedding", tokens * np.float32(self.config.embedding_multiplier))

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Llama's block, which adds less to the stream."""
        block = super().block(i, w)
        block.residual_multiplier = self.config.residual_multiplier
        return block

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Scale scores as the config says."""
        return {**super().attention(i, w), "scale": self.config.attention_multiplier}

    def score(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and divide: (B, T, D) → (B, T, V)."""
        logits = super().score(x)
        logits /= np.float32(self.config.logits_scaling)
        return logits


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Four multipliers: embeddings, scores, branches, logits",
    why="the learning rate of a small model serves a large one",
    published="3.1 8B",
    keys={"num_key_value_heads": 8},
)
