"""Falcon as it was first published, with code of its own: ``RefinedWeb`` (40B), ``RefinedWebModel`` (7B, RW).

The tensors have the names that they still have (falcon.py). The config.json says nothing of
``new_decoder_architecture``: a model whose keys have groups, ``n_head_kv``, has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tinystar_np.models.falcon import Falcon, FalconConfig


@dataclass(frozen=True)
class OldFalconConfig(FalconConfig):
    """Falcon's keys with the defaults of their first class; later keys mean nothing."""

    UNUSED: ClassVar = (
        *("ffn_hidden_size", "activation", "num_ln_in_parallel_attn"),
        *("rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings"),
    )

    vocab_size: int = 250880
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 8
    multi_query: bool | None = False
    parallel_attn: bool | None = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Say what groups of keys imply: the new architecture, whose blocks are parallel."""
        grouped = raw.get("n_head_kv") is not None
        return super().from_dict({"new_decoder_architecture": grouped, "parallel_attn": grouped, **raw})


class OldFalcon(Falcon):
    """The first files of Falcon 7B, 40B and RW, and what was tuned from them."""

    Config = OldFalconConfig
