"""Gemma (Gemma Team 2024, arXiv:2403.08295): Llama from Google, with wide heads and a large vocabulary.

    x₀ = √D · embedding
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention              | position | norm              | activation    | block      | context |
|------------------------|----------|-------------------|---------------|------------|---------|
| MQA in 2B; MHA in 7B   | RoPE     | RMSNorm, gain 1+w | GeGLU (tanh)  | sequential | 8192    |

New in it: little, and all of it shared by the Gemmas after it. Heads are 256 wide whatever D is (in 7B the
16 of them are wider together than the stream), the vocabulary has 256000 tokens, and so that its table is
paid once, it is the output layer too. A table that scores well has short rows; the stream wants long ones:
hence √D, as in Vaswani et al. 2017, arXiv:1706.03762. Norms store their gain less 1 (layers/norms.py).

In the published files √D was rounded to their type: 55.5 instead of 55.4256 for D = 3072 in bfloat16. Here
the stream is float32 and so is √D, as in transformers when it computes in float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import GatedFeedForward, RMSNorm, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import Llama, LlamaConfig
from tinystar_np.state import Span
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GemmaConfig(LlamaConfig):
    """Llama's keys with Gemma's defaults.

    Files of 2024 may have ``hidden_activation`` besides ``hidden_act``. transformers does not read it any
    more, so it may only repeat what all Gemmas have.
    """

    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "hidden_activation": (None, "gelu_pytorch_tanh"),
        "use_bidirectional_attention": (None, False),
    }
    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias",)

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    head_dim: int | None = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    tie_word_embeddings: bool = True

    @property
    def activation(self) -> str:
        """The first files say "gelu" and mean its approximation."""
        return "gelu_pytorch_tanh" if self.hidden_act == "gelu" else self.hidden_act

    @property
    def embedding_multiplier(self) -> float:
        """√D, by which the embeddings are multiplied."""
        return float(np.sqrt(np.float32(self.hidden_size)))


class Gemma(Llama):
    """Gemma 1 and 1.1 in 2B and 7B, and CodeGemma."""

    Config = GemmaConfig

    def embed(self, ids: NDArray[np.integer], span: Span) -> NDArray:
        """Look the tokens up and multiply; transformers' table does both, so no tap hears of less."""
        x = self.tokens(ids) * np.float32(self.config.embedding_multiplier)
        return tap("embedding", tap("embedding.tokens", x))

    def norm(self, w: Weights) -> RMSNorm:
        """Build a norm, whose gain is stored less 1."""
        return RMSNorm(w, eps=self.config.rms_norm_eps, offset=1.0)

    def feed_forward(self, i: int, w: Weights) -> GatedFeedForward:
        """Build layer i's feed-forward layer."""
        return GatedFeedForward(w, activation=ACTIVATIONS[self.config.activation])


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Heads of 256, GeGLU, gains stored less 1, embeddings times √D",
    why="one table of 256000 tokens is both ends of the model",
    published="7B",
)
