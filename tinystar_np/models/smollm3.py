"""SmolLM3 3B (Hugging Face 2025, https://huggingface.co/blog/smollm3): every fourth layer knows no positions.

    x → norm → attention, turned in three layers of four ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position                 | norm    | activation | block      | context                    |
|-----------|--------------------------|---------|------------|------------|----------------------------|
| GQA 16:4  | RoPE; none in each 4th   | RMSNorm | SwiGLU     | sequential | 65536, 131072 by yarn      |

New in it: everything about its training is told. Layers without positions compare what tokens say and not how
far they are apart, and so read long texts as they read short ones; the rotated layers around them know the
order. The causal mask alone tells some order too (Haviv et al. 2022, arXiv:2203.16634). Yang et al. 2025,
arXiv:2501.18795. A config can give such layers windows; the published model does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinystar_np.configs.config import at_least_1, require
from tinystar_np.configs.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.layers import Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import Llama, LlamaConfig


@dataclass(frozen=True)
class SmolLM3Config(LlamaConfig):
    """Llama's keys with SmolLM3's defaults, which layers turn, and which have a window.

    ``use_sliding_window`` decides only where there are no ``layer_types``, as in transformers.
    """

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    max_position_embeddings: int = 32768
    rope_theta: float = 2_000_000.0
    tie_word_embeddings: bool = True
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    use_sliding_window: bool = False
    sliding_window: int | None = None
    layer_types: list[str] | None = None

    @property
    def turned(self) -> Sequence[int]:
        """For each layer, whether it turns queries and keys: the key is called by its zeros."""
        if self.no_rope_layers is not None:
            return self.no_rope_layers
        n = at_least_1("no_rope_layer_interval", self.no_rope_layer_interval)
        return [int((i + 1) % n != 0) for i in range(self.num_hidden_layers)]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer."""
        used = self.use_sliding_window and self.sliding_window is not None
        usual = [FULL if turned or not used else SLIDING for turned in self.turned[: self.num_hidden_layers]]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    def check(self) -> None:
        """Refuse contradictions."""
        listed, L = self.no_rope_layers, self.num_hidden_layers
        require(
            listed is None or (len(listed) >= L and all(turned in (0, 1) for turned in listed)),
            f"no_rope_layers = {listed}, but it must be 0 or 1 for each of num_hidden_layers = {L}.",
        )
        super().check()


class SmolLM3(Llama):
    """SmolLM3 3B."""

    Config = SmolLM3Config

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Turn in some layers only."""
        settings = super().attention(i, w)
        return settings if self.config.turned[i] else {**settings, "rope": None}


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="No positions in every fourth layer",
    why="those layers treat long texts as they treat short ones",
    published="3B",
)
