"""Qwen3 with experts, 30B-A3B and 235B-A22B (Yang et al. 2025, arXiv:2505.09388).

    x → norm → attention ──+ x → norm → the 8 best of 128 experts ──+ x      (× L)
    logits = norm(x) · W

| attention         | position | norm    | feed-forward     | block      | context                  |
|-------------------|----------|---------|------------------|------------|--------------------------|
| GQA, q and k norm | RoPE     | RMSNorm | SwiGLU, 8 of 128 | sequential | 32768, 131072 with yarn  |

New in it: more and smaller experts still, and no shared one any more; the published models scale the weights
of the eight to sum to 1. As in the dense Qwen3, each head's queries and keys are normed before they are
turned, which bounds the scores and makes the biases needless. Which layers have experts is said as in Qwen2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.layer_types import equal_windows
from tinystar_np.layers import Weights
from tinystar_np.layers.blocks import FeedForwardLayer
from tinystar_np.models.expert_weights import EXPERTS, with_experts
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import HEAD_NORMS, Llama, LlamaConfig
from tinystar_np.models.mixtral import Mixtral
from tinystar_np.models.qwen2_moe import Qwen2Moe, Qwen2MoeConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class Qwen3MoeConfig(Qwen2MoeConfig):
    """Qwen2-MoE's keys, those of the shared expert without effect; a window is the same in all layers."""

    UNUSED: ClassVar[Sequence[str]] = (
        *("mlp_bias", "fused_experts", "qkv_bias", "max_window_layers", "layer_types"),
        "shared_expert_intermediate_size",
    )

    intermediate_size: int = 6144
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 4
    num_local_experts: int = 128
    num_experts_per_tok: int = 8
    moe_intermediate_size: int = 768

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)


class Qwen3Moe(Qwen2Moe):
    """Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder and their like."""

    Config = Qwen3MoeConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with norms and experts."""
        return with_experts({**Llama.weight_table(config), **HEAD_NORMS}, EXPERTS, config)

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Leave out the shared expert."""
        return Mixtral.feed_forward(self, i, w)


FACTS = Facts(
    grew_from="qwen3",
    kind="experts",
    changed="128 narrow experts, 8 for a token, none shared",
    why="more weights for the same work",
    published="30B-A3B",
    keys={"num_key_value_heads": 4, "head_dim": 128, "num_hidden_layers": 1},
)
