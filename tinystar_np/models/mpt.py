"""MPT 7B and 30B (MosaicML 2023): ALiBi without a single bias.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position | norm                    | activation   | block      | context                    |
|-----------|----------|-------------------------|--------------|------------|----------------------------|
| MHA       | ALiBi    | LayerNorm, without bias | GELU (exact) | sequential | 2048; 65536 in StoryWriter |

New in it: what keeps a long training from breaking unattended. No biases, not even in the norms; in some
models queries, keys and values cut off at ±``clip_qkv``. And the length: slopes go on beyond what was trained
(Press, Smith & Lewis 2022, arXiv:2108.12409), and StoryWriter was tuned on whole books. For a number of heads
that is no power of two its code picks slopes in a way of its own, and arrives at those of the paper.

transformers knows fewer variants than MosaicML's own code. What it passes over in a config, and would compute
otherwise than the model was trained, is refused here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.layers_old import Weights
from tinystar_np.models.config import require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_norm_decoder import LayerNormConfig, LayerNormDecoder

ONLY: Mapping[str, Any] = {
    "alibi": True,
    "alibi_bias_max": 8,
    "attn_type": "multihead_attention",
    "prefix_lm": False,
    "qk_ln": False,
}
"""Keys of ``attn_config`` that have one value here."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class MptConfig(LayerNormConfig):
    """The keys of an MPT config.json that change the mathematics; defaults as in transformers.

    ``learned_pos_emb`` means nothing beside ``alibi``: the files on the hub say true.
    """

    vocab_size: int = 50368
    hidden_act: str = "gelu"
    attn_config: dict[str, Any] | None = None
    tie_word_embeddings: bool = True

    ALIASES: ClassVar = {
        "d_model": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "max_seq_len": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
    }
    REFUSED: ClassVar = {
        "expansion_ratio": (4,),
        "logit_scale": (None,),
        "no_bias": (True,),
        "norm_type": ("layernorm", "low_precision_layernorm"),
    }
    UNUSED: ClassVar = ("hidden_act", "intermediate_size", "layer_norm_eps", "max_position_embeddings")

    @property
    def clip(self) -> float | None:
        """Where queries, keys and values are cut off; 0 and null are nowhere."""
        return (self.attn_config or {}).get("clip_qkv") or None

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        given: float | None = (self.attn_config or {}).get("softmax_scale")
        return self.sizes["K"] ** -0.5 if given is None else given

    def key_bias(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        """Say what ALiBi adds to the scaled scores of the keys at these positions: (S,) → (H, S)."""
        return alibi_bias(alibi_slopes(self.num_attention_heads), positions)

    def check(self) -> None:
        """Refuse contradictions, and what is not implemented."""
        super().check()
        given = self.attn_config or {}
        for key, value in ONLY.items():
            found = given.get(key, value)
            require(found == value, f"attn_config.{key} = {found!r} is not implemented; {value!r} is.")
        for key in ("clip_qkv", "softmax_scale"):
            found = given.get(key)
            number = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= LARGEST
            require(
                found is None or number,
                f"attn_config.{key} = {found!r}, but it must be null or a number, at least 0.",
            )


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("blocks.{i}.norm_1.weight", "D"),
    "blocks.{i}.attention.qkv.weight":     ("blocks.{i}.attn.Wqkv.weight", "3D D -> D 3D"),
    "blocks.{i}.attention.out.weight":     ("blocks.{i}.attn.out_proj.weight", "D D -> D D"),
    "blocks.{i}.feed_forward_norm.gain":   ("blocks.{i}.norm_2.weight", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("blocks.{i}.ffn.up_proj.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.down.weight": ("blocks.{i}.ffn.down_proj.weight", "D F -> F D"),
    "final_norm.gain":                     ("norm_f.weight", "D"),
}  # fmt: skip


class Mpt(LayerNormDecoder):
    """MPT 7B and 30B, base, instruct, chat and StoryWriter."""

    Config = MptConfig

    @staticmethod
    def weight_table(config: MptConfig) -> WeightTable:
        """Add the output layer where it is not the embedding table."""
        return with_switches(WEIGHTS, config)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Add slopes to the scores, and clip."""
        c: MptConfig = self.config
        return {**super().attention(i, w), "scale": c.scale, "clip": c.clip, "key_bias": c.key_bias}


FACTS = Facts(
    grew_from="bloom",
    kind="block",
    changed="No biases anywhere; queries, keys and values clipped",
    why="long training runs stay stable; ALiBi reaches beyond the trained length",
    published="7B",
    keys={"d_model": 4096, "n_heads": 32},
)
