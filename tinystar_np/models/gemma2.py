"""Gemma 2 (Gemma Team 2024, arXiv:2408.00118): every number bounded, every second layer short-sighted.

    x₀ = √D · embedding
    x → norm → attention → norm ──+ x → norm → feed-forward → norm ──+ x      (× L)
    logits = 30 · tanh(norm(x) · embeddingᵀ / 30)

| attention               | position | norm              | activation   | block    | context |
|-------------------------|----------|-------------------|--------------|----------|---------|
| GQA, window 4096 in     | RoPE     | RMSNorm, gain 1+w | GeGLU (tanh) | sandwich | 8192    |
| every second layer      |          |                   |              |          |         |

New in it, beside Gemma (gemma.py): three bounds against training that runs away. Norms behind each branch
bound what it adds to the stream; scores are bent below 50 and logits below 30 by a tanh, c · tanh(s / c), as
Bello et al. 2016, arXiv:1611.09940, bent them. Layers with a window alternate with layers that see all, which
halves the cache of long texts and cost no quality (Beltagy et al. 2020, arXiv:2004.05150, mixed the two). The
scale of the scores is given, since the widest model took 1/√(D/H) where a head is not D/H wide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from tinystar_np.configs.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.kernels.attention import capped
from tinystar_np.layers import SequentialBlock, Weights
from tinystar_np.models.gemma import Gemma, GemmaConfig
from tinystar_np.models.llama import LlamaConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class Gemma2Config(GemmaConfig):
    """Gemma's keys, bounds and windows; ``hidden_act``, which old files have too, means nothing here."""

    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "use_bidirectional_attention": (None, False),
    }
    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias", "hidden_act")

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    hidden_activation: str = "gelu_pytorch_tanh"
    query_pre_attn_scalar: float = 256
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0

    @property
    def activation(self) -> str:
        """The key that counts; here "gelu" is the exact one."""
        return self.hidden_activation

    @property
    def full_every(self) -> int:
        """Which layers see all, where the file does not name them: each so manieth."""
        return 2

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer."""
        L, n = self.num_hidden_layers, 1 if self.layer_types is not None else self.full_every
        usual = [SLIDING if (i + 1) % n else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, self.sliding_window)


SANDWICH_WEIGHTS: WeightTable = {
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.gain":      ("layers.{i}.pre_feedforward_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
}  # fmt: skip


class Gemma2(Gemma):
    """Gemma 2 in 2B, 9B and 27B."""

    Config = Gemma2Config

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Add the norms behind the branches; Llama's name of the second norm is now the first of these."""
        return {**Gemma.weight_table(config), **SANDWICH_WEIGHTS}

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Build the sandwich."""
        block = super().block(i, w)
        block.attention_post_norm = self.norm(w.attention_post_norm)
        block.feed_forward_post_norm = self.norm(w.feed_forward_post_norm)
        return block

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Scale and bend scores as the config says."""
        c = self.config
        return {
            **super().attention(i, w),
            "scale": c.query_pre_attn_scalar**-0.5,
            "soft_cap": c.attn_logit_softcapping,
        }

    def score(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, none above the cap: (B, T, D) → (B, T, V)."""
        logits = super().score(x)
        if self.config.final_logit_softcapping is not None:
            logits = capped(logits, self.config.final_logit_softcapping)
        return logits
