"""Granite and its experts in the old form, for those who still stand on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Span
from tinystar_np.configs.config import DecoderConfig
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers_old import SequentialBlock, Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import Experts
from tinystar_np.models.unported_llama import Llama, LlamaConfig
from tinystar_np.tap import tap
from tinystar_np.weights.weight_table import WeightTable, without


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


@dataclass(frozen=True)
class GraniteMoeConfig(GraniteConfig):
    """Granite's keys, of which ``intermediate_size`` is now the width of one expert, and two more."""

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias",)
    LETTERS: ClassVar[Mapping[str, str]] = {**GraniteConfig.LETTERS, "E": "num_local_experts"}

    num_local_experts: int = 8
    num_experts_per_tok: int | None = 2


EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.block_sparse_moe.router.layer.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.weight":
        ("layers.{i}.block_sparse_moe.input_linear.weight", "E 2F D -> D 2F"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.output_linear.weight", "E D F -> F D"),
}  # fmt: skip


class GraniteMoe(Granite):
    """PowerMoE-3B and Granite 3.0 and 3.1 with experts, 1B and 3B, of which 400M and 800M compute."""

    Config = GraniteMoeConfig
    OTHER_NAMES: ClassVar = {  # of the modules in transformers 5, which save_pretrained turns back
        r"(.*\.block_sparse_moe)\.router\.weight": r"\1.router.layer.weight",
        r"(.*\.block_sparse_moe)\.experts\.gate_up_proj": r"\1.input_linear.weight",
        r"(.*\.block_sparse_moe)\.experts\.down_proj": r"\1.output_linear.weight",
    }

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with experts."""
        return {**without(Llama.weight_table(config), ".feed_forward."), **EXPERTS}

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Route each token to its experts."""
        c: GraniteMoeConfig = self.config
        return Experts(
            w,
            experts=c.num_local_experts,
            per_token=c.num_experts_per_tok or 0,
            routing=top_k_softmax,
            activation=ACTIVATIONS[c.hidden_act],
        )
