"""OLMo as AI2's own code has it: ``hf_olmo``, and ``olmo`` in its first files.

The model is OLMo's (olmo.py). Queries, keys and values are one matrix, and so are both inputs of the
feed-forward layer: first what is multiplied, then its gate. That code knows far more variants than the
published models use; they are refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.models.config import require
from tinystar_np.models.olmo import Olmo, OlmoConfig
from tinystar_np.checkpoints.weight_table import WeightTable, with_switches


@dataclass(frozen=True)
class OldOlmoConfig(OlmoConfig):
    """The keys of AI2's config.json; defaults are those of its class.

    ``mlp_hidden_size`` is the width of both inputs together. ``embedding_size`` has room for more tokens than
    there are, whose scores are computed as well.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {
        "d_model": "hidden_size",
        "max_sequence_length": "max_position_embeddings",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "n_layers": "num_hidden_layers",
        "weight_tying": "tie_word_embeddings",
    }
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "activation_type": ("swiglu",),
        "alibi": (False, None),
        "attention_layer_norm": (False, None),
        "bias_for_layer_norm": (False, None),
        "block_group_size": (1,),
        "block_type": ("sequential",),
        "embedding_layer_norm": (False, None),
        "include_bias": (False,),
        "layer_norm_eps": (1e-5, None),
        "layer_norm_type": ("default", "low_precision"),
        "layer_norm_with_affine": (False,),
        "norm_after": (False, None),
        "rope": (True,),
        "scale_logits": (False, None),
    }
    UNUSED: ClassVar[Sequence[str]] = (
        *("rms_norm_eps", "mlp_bias", "attention_bias", "head_dim", "hidden_act", "intermediate_size"),
        *("rope_scaling", "rope_parameters", "original_max_position_embeddings"),
    )

    vocab_size: int = 50257
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 1024
    tie_word_embeddings: bool = True
    embedding_size: int | None = None
    mlp_hidden_size: int | None = None
    mlp_ratio: int = 4
    multi_query_attention: bool | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, of which three have keys of their own."""
        inner = self.mlp_ratio * self.hidden_size if self.mlp_hidden_size is None else self.mlp_hidden_size
        own = {"F": inner // 2}
        own |= {} if self.embedding_size is None else {"V": self.embedding_size}
        own |= {"G": 1} if self.num_key_value_heads is None and self.multi_query_attention else {}
        return super().sizes | own

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        V, size = self.vocab_size, self.embedding_size
        require(size is None or size >= V, f"embedding_size = {size} is less than vocab_size = {V}.")
        n = self.mlp_hidden_size
        require(n is None or n % 2 == 0, f"mlp_hidden_size = {n} is of two inputs, so it must be even.")


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("transformer.wte.weight", "V D"),
    "blocks.{i}.attention.qkv.weight":     ("transformer.blocks.{i}.att_proj.weight", "HK+2GK D -> D HK+2GK"),
    "blocks.{i}.attention.out.weight":     ("transformer.blocks.{i}.attn_out.weight", "D HK -> HK D"),
    "blocks.{i}.feed_forward.up.weight":   ("transformer.blocks.{i}.ff_proj.weight[0]", "2F D -> D F"),
    "blocks.{i}.feed_forward.gate.weight": ("transformer.blocks.{i}.ff_proj.weight[1]", "2F D -> D F"),
    "blocks.{i}.feed_forward.down.weight": ("transformer.blocks.{i}.ff_out.weight", "D F -> F D"),
}  # fmt: skip
UNTIED_HEAD: WeightTable = {"head.weight": ("transformer.ff_out.weight", "V D -> D V")}


class OldOlmo(Olmo):
    """The first files of OLMo 1B and 7B."""

    Config = OldOlmoConfig

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Add the output layer where it is not the embedding table."""
        return with_switches(WEIGHTS, config, UNTIED_HEAD)
