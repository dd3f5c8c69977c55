"""Qwen2 and Qwen2.5 (Qwen Team 2024, arXiv:2407.10671, 2412.15115): Llama with biases where they help most.

    x → norm → attention, q k v with biases ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention               | position | norm    | activation | block      | context                   |
|-------------------------|----------|---------|------------|------------|---------------------------|
| GQA; windows in some    | RoPE     | RMSNorm | SwiGLU     | sequential | 32768, ×4 by yarn in some |

New in it: little that can be seen here; what sets it apart is what it read, 7, later 18 trillion tokens. All
sizes down to 0.5B share keys and values among queries. Queries, keys and values keep the biases that Llama
did without: with them, rotated heads read on better beyond the length that they were trained at (Bai et al.
2023, arXiv:2309.16609). The base of the rotations is 1000000. A config can give a window to the layers from
``max_window_layers`` on; the published models leave it unused. The smallest tie their output layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import QKV_BIASES, Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class Qwen2Config(LlamaConfig):
    """Llama's keys with Qwen's defaults, and those of the windows."""

    UNUSED: ClassVar[Sequence[str]] = ("attention_bias", "mlp_bias")

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer."""
        window = self.sliding_window if self.use_sliding_window else None
        last_full = self.num_hidden_layers if window is None else self.max_window_layers
        usual = [SLIDING if i >= last_full else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, window)


class Qwen2(Llama):
    """Qwen2, Qwen2.5 and their coding, mathematical and reasoning relatives, 0.5B to 72B, dense."""

    Config = Qwen2Config

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with biases on three of the four projections, whatever the config says."""
        rows = {**Llama.weight_table(config), **QKV_BIASES}
        rows.pop("blocks.{i}.attention.out.bias", None)
        return rows


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Biases on queries, keys and values only",
    why="helps rotary positions beyond the trained length",
    published="7B",
    keys={"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4},
)
