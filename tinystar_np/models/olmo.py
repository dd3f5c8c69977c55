"""OLMo (Groeneveld et al. 2024, arXiv:2402.00838): Llama whose norms learn nothing.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention            | position | norm                         | activation | block      | context        |
|----------------------|----------|------------------------------|------------|------------|----------------|
| MHA; q, k, v clipped | RoPE     | LayerNorm, no gain, no bias  | SwiGLU     | sequential | 2048, then 4096 |

New in it: data, code and every step of the training in the open. Of all the choices that the paper weighs,
two show here. A norm without parameters is the safest and fastest of those tried. And from version 0424 on,
queries, keys and values are kept between −8 and 8, so that a rare large one cannot upset the training (the
idea is MPT's and DBRX's too). All else, names of weights included, is Llama's (llama.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.layers import LayerNorm, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable, without

EPSILON = 1e-5  # no key of the config


@dataclass(frozen=True)
class OlmoConfig(LlamaConfig):
    """Llama's keys with OLMo's defaults, and the clip."""

    UNUSED: ClassVar[Sequence[str]] = ("rms_norm_eps", "mlp_bias")

    vocab_size: int = 50304
    clip_qkv: float | None = None


class Olmo(Llama):
    """OLMo 1B and 7B, of February, April and July 2024."""

    Config = OlmoConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Leave out the norms."""
        return without(Llama.weight_table(config), "norm.gain")

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm, for which there are no weights."""
        return LayerNorm(w, eps=EPSILON)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Clip queries, keys and values."""
        return {**super().attention(i, w), "clip": self.config.clip_qkv}


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="A LayerNorm without parameters; clipped q, k, v",
    why="the safest norm of those tried; everything is open",
    published="7B",
)
