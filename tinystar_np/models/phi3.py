"""Phi-3, 3.5, Phi-4 and Phi-4-mini (Microsoft 2024–25, arXiv:2404.14219, 2412.08905, 2503.01743).

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention                      | position       | norm    | activation | block      | context       |
|--------------------------------|----------------|---------|------------|------------|---------------|
| MHA, GQA; window 2047 in some  | RoPE, longrope | RMSNorm | SwiGLU     | sequential | 4096 – 131072 |

New in it: textbooks and synthetic text instead of all that the web holds, and the long versions' rotations.
LongRoPE searches for each pair of a head its own factor, by which it turns more slowly, and has two lists of
them: texts up to ``original_max_position_embeddings`` turn by one, longer ones by the other (Ding et al.
2024, arXiv:2402.13753; kernels/rope.py). Phi-4-mini turns three quarters of each head. Else it is Llama with
fewer products: one matrix makes queries, keys and values, another gate and up.

The first files call the rule "su" and some "yarn", which here is not what others call so. A text that grows
past the original length is read again from its start, once: all that the cache holds was computed under the
other list. So does transformers' ``generate``; its model, called with a cache, does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import require
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import WEIGHTS, LlamaConfig
from tinystar_np.models.mistral import Mistral, MistralConfig
from tinystar_np.weights.weight_table import WeightTable, with_switches, without


@dataclass(frozen=True)
class Phi3Config(MistralConfig):
    """Mistral's keys with Phi-3's defaults, and the part of each head that turns."""

    UNUSED: ClassVar[Sequence[str]] = ("attention_bias", "mlp_bias")

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int | None = 4096
    rms_norm_eps: float = 1e-5
    partial_rotary_factor: float | None = 1.0  # null turns whole heads
    sliding_window: int | None = None

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations, of which there are two."""
        renamed = {key: _renamed(getattr(self, key)) for key in ("rope_scaling", "rope_parameters")}
        found = RopeParameters.read(vars(self) | renamed, head_dim=self.sizes["K"], partial=True)
        rule = found.rope_type
        require(
            rule in ("default", "longrope"), f"rope_type = {rule!r}, but Phi-3 knows default and longrope."
        )
        return found


def _renamed(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None or given.get("rope_type", given.get("type")) not in ("su", "yarn"):
        return given
    return {**given, "rope_type": "longrope"}


APART = tuple(
    f"blocks.{{i}}.{layer}."
    for layer in ("attention.q", "attention.k", "attention.v", "feed_forward.gate", "feed_forward.up")
)
FUSED: WeightTable = {
    "blocks.{i}.attention.qkv.weight":
        ("layers.{i}.self_attn.qkv_proj.weight", "HK+2GK D -> D HK+2GK"),
    "blocks.{i}.feed_forward.gate_up.weight":
        ("layers.{i}.mlp.gate_up_proj.weight", "2F D -> D 2F"),
}  # fmt: skip


class Phi3(Mistral):
    """Phi-3 mini and medium, Phi-3.5-mini, Phi-4 and Phi-4-mini."""

    Config = Phi3Config

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with five matrices in two."""
        return with_switches({**without(WEIGHTS, *APART), **FUSED}, config)


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="Fused projections; each rotary pair slowed down by its own factor",
    why="LongRoPE: a model trained on 4096 tokens reads 131072",
    published="3 mini 128k",
)
