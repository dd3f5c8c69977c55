"""Mistral 7B (Jiang et al. 2023, arXiv:2310.06825): Llama with a window.

    x → norm → attention to the last W tokens ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention        | position | norm    | activation | block      | context                    |
|------------------|----------|---------|------------|------------|----------------------------|
| GQA, window 4096 | RoPE     | RMSNorm | SwiGLU     | sequential | 32768 (v0.1: by the window) |

New in it: at 7B, grouped queries and a window, so that the cache stops growing at 4096 tokens; news from
farther back travels one window per layer. Later versions (v0.2 and on) took the window away again and say
``sliding_window: null``. All else, names of weights included, is Llama's (llama.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.layer_types import equal_windows
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import Llama, LlamaConfig


@dataclass(frozen=True)
class MistralConfig(LlamaConfig):
    """Llama's keys with Mistral's defaults, and the window."""

    UNUSED: ClassVar[Sequence[str]] = ("attention_bias", "mlp_bias")

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)


class Mistral(Llama):
    """Mistral 7B, Mistral Nemo, and the models that are built like them."""

    Config = MistralConfig


FACTS = Facts(
    grew_from="llama",
    kind="attention",
    changed="Shared keys and values at 7B, and a window of 4096",
    why="the cache stops growing; information travels one window per layer",
    published="7B v0.1",
)
