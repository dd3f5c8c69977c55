"""BLOOM 176B (BigScience 2022, arXiv:2211.05100): ALiBi, and a norm behind the embedding.

    x₀ = norm(embedding)
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position | norm      | activation  | block      | context |
|-----------|----------|-----------|-------------|------------|---------|
| MHA       | ALiBi    | LayerNorm | GELU (tanh) | sequential | 2048    |

New in it: 46 languages, by a thousand people in the open. Positions are nothing but a slope in the scores
(Press, Smith & Lewis 2022, arXiv:2108.12409), here in full precision and added to what 1/√K has scaled. The
norm behind the embedding kept the training stable (Dettmers et al. 2022, arXiv:2110.02861).

Falcon's RW models (falcon.py) took over the rest, down to the names and the fused projection head by head.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Span
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.layers_old import LayerNorm, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.falcon import Falcon, FalconConfig
from tinystar_np.tap import tap


@dataclass(frozen=True)
class BloomConfig(FalconConfig):
    """Falcon's keys as the RW models have them, with BLOOM's defaults and old names."""

    vocab_size: int = 250880
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 8
    activation: str = "gelu_new"
    alibi: bool | None = True
    bias: bool | None = True
    multi_query: bool | None = False
    parallel_attn: bool | None = False

    ALIASES: ClassVar = {**FalconConfig.ALIASES, "seq_length": "max_position_embeddings"}
    # The slow form of transformers, a sum of slices, leaves out biases.
    REFUSED: ClassVar = {
        **FalconConfig.REFUSED,
        "slow_but_exact": (False, None),
    }
    UNUSED: ClassVar = (
        *("activation", "alibi", "bias", "multi_query", "parallel_attn", "num_kv_heads", "n_head_kv"),
        *("new_decoder_architecture", "num_ln_in_parallel_attn", "ffn_hidden_size"),
        *("max_position_embeddings", "original_max_position_embeddings"),
        *("rope_theta", "rope_scaling", "rope_parameters"),
    )

    def key_bias(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        """Say what ALiBi adds to the scaled scores of the keys at these positions: (S,) → (H, S)."""
        return alibi_bias(alibi_slopes(self.num_attention_heads), positions)


EMBEDDING_NORM: WeightTable = {
    "embedding.norm.gain": ("word_embeddings_layernorm.weight", "D"),
    "embedding.norm.bias": ("word_embeddings_layernorm.bias", "D"),
}


class Bloom(Falcon):
    """BLOOM in its sizes from 560M to 176B, and BLOOMZ."""

    Config = BloomConfig

    @staticmethod
    def weight_table(config: FalconConfig) -> WeightTable:
        """Add the norm behind the embedding."""
        return {**Falcon.weight_table(config), **EMBEDDING_NORM}

    def embed(self, ids: NDArray[np.integer], span: Span) -> NDArray:
        """Look the tokens up and norm them."""
        return tap("embedding", self.embedding_norm(tap("embedding.tokens", self.tokens(ids))))

    def build_ends(self, w: Weights) -> None:
        """Falcon's ends, and the norm behind the embedding."""
        super().build_ends(w)
        self.embedding_norm = LayerNorm(w.embedding.norm, eps=self.config.layer_norm_epsilon)


FACTS = Facts(
    grew_from="gpt2",
    kind="position",
    changed="ALiBi instead of learned positions; a norm after the embedding",
    why="no table of positions limits the length; training stays stable",
    published="176B",
    keys={"hidden_size": 14336, "n_head": 112},
)
