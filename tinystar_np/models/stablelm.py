"""StableLM (Stability AI 2023–24, arXiv:2402.17834): 3B, 2 in 1.6B and 12B, and Stable Code.

    3B, 1.6B  x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    12B       x → norm ─┬→ attention ────┬→ + x                           (× L)
                        └→ feed-forward ─┘
    logits = norm(x) · W

| attention     | position                         | norm      | activation | block                | context |
|---------------|----------------------------------|-----------|------------|----------------------|---------|
| MHA; GQA 32:8 | RoPE, first quarter of each head | LayerNorm | SwiGLU     | sequential; parallel | 4096    |

New in it: Llama's blocks, with what GPT-NeoX (gpt_neox.py) had before it: LayerNorm, and rotations of a
quarter of each head, which cost little quality and save some work. 1.6B has biases on queries, keys and
values. 12B sets attention and feed-forward side by side behind one norm, and norms queries and keys, each
head with a gain of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tinystar_np.layers import LayerNorm, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import QKV_BIASES, WEIGHTS, Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable, with_switches, without


@dataclass(frozen=True)
class StableLmConfig(LlamaConfig):
    """Llama's keys with StableLM's defaults, and its switches."""

    UNUSED: ClassVar[Sequence[str]] = ("rms_norm_eps", "attention_bias", "mlp_bias")

    vocab_size: int = 50304
    hidden_size: int = 2560
    intermediate_size: int = 6912
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 4096
    layer_norm_eps: float = 1e-5
    partial_rotary_factor: float | None = 0.25  # null turns whole heads
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    use_qkv_bias: bool = False

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return self.use_parallel_residual


NORM_BIASES: WeightTable = {
    "blocks.{i}.attention_norm.bias":    ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.feed_forward_norm.bias": ("layers.{i}.post_attention_layernorm.bias", "D"),
    "final_norm.bias":                   ("norm.bias", "D"),
}  # fmt: skip


class StableLm(Llama):
    """StableLM 3B, StableLM 2, Stable Code, and the models that are built like them."""

    Config = StableLmConfig

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Llama's with other norms, and what the config switches on."""
        rows = {**WEIGHTS, **NORM_BIASES}
        if config.use_parallel_residual:
            rows = without(rows, "feed_forward_norm")
        for letter, heads in (("q", "H"), ("k", "G")) if config.qk_layernorm else ():
            for h in range(config.sizes[heads]):  # a tensor for each head
                name = f"layers.{{i}}.self_attn.{letter}_layernorm.norms.{h}.weight"
                rows[f"blocks.{{i}}.attention.{letter}_norm.{h}.gain"] = name, "K"
        return with_switches(rows, config, use_qkv_bias=QKV_BIASES)

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.layer_norm_eps)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Norm queries and keys where the config says so."""
        settings = super().attention(i, w)
        if self.config.qk_layernorm:
            settings |= {"q_norm": self._of_heads(w.q_norm, "H"), "k_norm": self._of_heads(w.k_norm, "G")}
        return settings

    def _of_heads(self, w: Weights, heads: str) -> LayerNorm:
        """Build the norm of each head's vectors: one, with gains (H, K)."""
        gains = [w.branch(str(h))["gain"] for h in range(self.config.sizes[heads])]
        return self.norm(Weights({"gain": np.stack(gains)}))


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="LayerNorm, and rotary positions in a quarter of each head, as in NeoX",
    why="some work saved at little cost in quality",
    published="3B",
)
