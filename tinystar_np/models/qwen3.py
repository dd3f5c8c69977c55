"""Qwen3 (Qwen Team 2025, arXiv:2505.09388), dense: norms of queries and keys instead of biases.

    x → norm → attention, q and k normed ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention            | position | norm                         | activation | block      | context |
|----------------------|----------|------------------------------|------------|------------|---------|
| GQA; windows in some | RoPE     | RMSNorm; of each q and k too | SwiGLU     | sequential | 32768   |

New in it: each head's query and key is normed before it is turned. However large activations grow, q·k does
not, and training stays stable; the biases of Qwen2 (qwen2.py) are gone. The idea is older: Henry et al. 2020,
arXiv:2010.04245; Dehghani et al. 2023, arXiv:2302.05442. A head is 128 wide whatever D is, so that the heads
together may be wider than the stream. The same weights think at length or answer at once, as they are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import HEAD_NORMS, Llama, LlamaConfig
from tinystar_np.models.qwen2 import Qwen2, Qwen2Config
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class Qwen3Config(Qwen2Config):
    """Qwen2's keys, of which ``attention_bias`` now has a meaning."""

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias",)

    head_dim: int | None = 128


class Qwen3(Qwen2):
    """Qwen3, 0.6B to 32B, dense."""

    Config = Qwen3Config

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with the norms of heads."""
        return {**Llama.weight_table(config), **HEAD_NORMS}


FACTS = Facts(
    grew_from="qwen2",
    kind="attention",
    changed="A norm on each head's query and key; the biases are gone",
    why="scores stay bounded however large activations grow",
    published="8B",
    keys={"num_key_value_heads": 8},
)
