"""OLMo 2 (OLMo Team 2024, arXiv:2501.00656): what a branch gives is normed, not what it reads.

    x → attention → norm ──+ x → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · W

| attention                       | position | norm    | activation | block                  | context |
|---------------------------------|----------|---------|------------|------------------------|---------|
| MHA, GQA in 32B; norms of q, k  | RoPE     | RMSNorm | SwiGLU     | norms on the branches  | 4096    |

New in it, beside OLMo (olmo.py): a training that does not spike. A branch reads the stream as it is and can
add no more to it than its norm's gain allows; the stream itself stays free, as before (the order of Swin 2,
Liu et al. 2021, arXiv:2111.09883). Queries and keys are normed too, each over all heads of a token at once,
so that scores stay bounded and no clip is needed. The norms have gains again: RMSNorm, as in Llama.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.layers import Attention, SequentialBlock, Weights
from tinystar_np.layers.blocks import no_norm
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import JOINT_NORMS, Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable, without


@dataclass(frozen=True)
class Olmo2Config(LlamaConfig):
    """Llama's keys with OLMo 2's defaults."""

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias",)

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5


BEHIND_BRANCHES: WeightTable = {
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
}  # fmt: skip


class Olmo2(Llama):
    """OLMo 2 in 1B, 7B, 13B and 32B."""

    Config = Olmo2Config

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Put the norms where they are here."""
        rows = without(Llama.weight_table(config), "attention_norm", "feed_forward_norm")
        return {**rows, **JOINT_NORMS, **BEHIND_BRANCHES}

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Attention, norm, feed-forward, norm."""
        return SequentialBlock(
            attention_norm=no_norm,
            attention=Attention(w.attention, **self.attention(i, w.attention)),
            attention_post_norm=self.norm(w.attention_post_norm),
            feed_forward_norm=no_norm,
            feed_forward=self.feed_forward(i, w.feed_forward),
            feed_forward_post_norm=self.norm(w.feed_forward_post_norm),
        )

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Norm queries and keys, all heads of a token as one vector."""
        return {**super().attention(i, w), "norm_together": True}


FACTS = Facts(
    grew_from="olmo",
    kind="block",
    changed="Norms after the branches; queries and keys normed over all heads",
    why="training without loss spikes",
    published="7B",
)
