"""Falcon (Almazrouei et al. 2023, arXiv:2311.16867; Malartic et al. 2024, arXiv:2407.14885): four models.

    7B     x → norm ─┬→ attention ────┬→ + x       40B    x ─┬→ norm → attention ─────┬→ + x
                     └→ feed-forward ─┘                      └→ norm' → feed-forward ─┘

|           | attention | G | position | norm         | activation   | block      | biases | context |
|-----------|-----------|---|----------|--------------|--------------|------------|--------|---------|
| RW-1B     | MHA       | H | ALiBi    | LayerNorm, 2 | GELU (exact) | sequential | yes    | 2048    |
| 7B        | MQA       | 1 | RoPE     | LayerNorm, 1 | GELU (exact) | parallel   | no     | 2048    |
| 40B, 180B | GQA       | 8 | RoPE     | LayerNorm, 2 | GELU (exact) | parallel   | no     | 2048    |
| 11B       | GQA       | 8 | RoPE     | LayerNorm, 1 | GELU (exact) | parallel   | no     | 8192    |

Where a block has one norm, it feeds both branches. The output layer is by default the embedding table.

New in it: the data, for the RW models showed that text from the web alone, well cleaned, teaches as much as
curated collections do (Penedo et al. 2023, arXiv:2306.01116). And keys and values in groups, so that a layer
can be spread over as many processors as it has groups, each with keys and values of its own. Hence the
layout of the fused projection, group by group: [its queries, its key, its value]. A processor takes one
piece of it. With G = H that is the RW models' [query, key, value] for each head, with G = 1 it is the 7B's.

ALiBi is added to q·k before 1/√K scales both, and comes in bfloat16 (kernels/alibi.py).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.alibi import alibi_bias_in_bfloat16, alibi_slopes
from tinystar_np.layers_old import FeedForward, LayerNorm, Weights
from tinystar_np.models.attention_decoder import AttentionDecoder
from tinystar_np.models.config import DecoderConfig, known, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters


@dataclass(frozen=True)
class FalconConfig(DecoderConfig):
    """The keys of a Falcon config.json that change the mathematics; defaults as in transformers.

    ``multi_query`` means nothing beside ``new_decoder_architecture``, and ``num_kv_heads`` nothing beside
    ``multi_query``: the 7B's file says 71 there.
    """

    vocab_size: int = 65024
    hidden_size: int = 4544
    num_hidden_layers: int = 32
    num_attention_heads: int = 71
    num_kv_heads: int | None = None
    ffn_hidden_size: int | None = None
    activation: str = "gelu"
    alibi: bool | None = False
    bias: bool | None = False
    layer_norm_epsilon: float = 1e-5
    max_position_embeddings: int = 2048
    multi_query: bool | None = True
    new_decoder_architecture: bool | None = False
    num_ln_in_parallel_attn: int | None = None
    original_max_position_embeddings: int | None = None
    parallel_attn: bool | None = True
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    tie_word_embeddings: bool = True

    ALIASES: ClassVar = {
        "n_embed": "hidden_size",
        "n_head": "num_attention_heads",
        "n_head_kv": "num_kv_heads",
        "n_layer": "num_hidden_layers",
    }
    REFUSED: ClassVar = {"apply_residual_connection_post_layernorm": (False, None)}

    LETTERS: ClassVar = {**DecoderConfig.LETTERS, "G": "num_kv_heads", "F": "ffn_hidden_size"}

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with G key heads: one, as many as there are queries, or what the file says."""
        one_for_all = self.multi_query and not self.new_decoder_architecture
        return super().sizes | ({"G": 1} if one_for_all else {})

    @property
    def rope(self) -> RopeParameters | None:
        """The rule of the rotations; None with ALiBi."""
        return None if self.alibi else RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return bool(self.parallel_attn)

    def key_bias(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        """Say what ALiBi adds to the scaled scores of the keys at these positions: (S,) → (H, S)."""
        bias = alibi_bias_in_bfloat16(alibi_slopes(self.num_attention_heads), positions)
        return bias * np.float32(self.sizes["K"] ** -0.5)

    def check(self) -> None:
        """Refuse contradictions, those included under which transformers cannot run."""
        super().check()
        H, G = self.sizes["H"], self.sizes["G"]
        norms = f"num_ln_in_parallel_attn = {self.num_ln_in_parallel_attn}"
        if self.new_decoder_architecture:
            asks = f"parallel_attn = {self.parallel_attn}, but new_decoder_architecture asks for true."
            require(bool(self.parallel_attn), asks)
            require(self.num_ln_in_parallel_attn in (None, 1, 2), f"{norms}, but it must be 1, 2 or null.")
        else:
            one_each = f"num_kv_heads = {G}, but multi_query = False asks for num_attention_heads = {H}."
            require(bool(self.multi_query) or G == H, one_each)
            one_norm = f"{norms}, but parallel blocks have 1 where new_decoder_architecture = False."
            require(not self.parallel_attn or self.num_ln_in_parallel_attn != 2, one_norm)
        known(ACTIVATIONS, "activation", self.activation)


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("word_embeddings.weight", "V D"),
    "blocks.{i}.attention.qkv.weight":     ("h.{i}.self_attention.query_key_value.weight",
                                            "HK+2GK D -> D HK+2GK"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.self_attention.dense.weight", "D HK -> HK D"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.dense_h_to_4h.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.dense_4h_to_h.weight", "D F -> F D"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
}  # fmt: skip
FIRST_NORM: WeightTable = {
    "blocks.{i}.attention_norm.gain":      ("h.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.input_layernorm.bias", "D"),
}  # fmt: skip
SECOND_NORM: WeightTable = {
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.post_attention_layernorm.bias", "D"),
}  # fmt: skip
TWO_NORMS: WeightTable = {
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_attn.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.ln_attn.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.ln_mlp.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.ln_mlp.bias", "D"),
}  # fmt: skip
BIASES: WeightTable = {
    "blocks.{i}.attention.qkv.bias":       ("h.{i}.self_attention.query_key_value.bias", "HK+2GK"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.self_attention.dense.bias", "D"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.dense_h_to_4h.bias", "F"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.dense_4h_to_h.bias", "D"),
}  # fmt: skip


class Falcon(AttentionDecoder):
    """Falcon 7B, 11B, 40B and 180B, and the RW models."""

    Config = FalconConfig
    PREFIX = "transformer."

    @staticmethod
    def weight_table(config: FalconConfig) -> WeightTable:
        """Take the norms of this variant, and what the config switches on."""
        two_norms = config.new_decoder_architecture and config.num_ln_in_parallel_attn != 1
        norms = {**(TWO_NORMS if two_norms else FIRST_NORM), **({} if config.parallel_attn else SECOND_NORM)}
        return with_switches({**WEIGHTS, **norms}, config, bias=BIASES)

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.layer_norm_epsilon)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """The fused projection goes group by group; ALiBi, or rotations."""
        c: FalconConfig = self.config
        return {**super().attention(i, w), "by_group": True, "key_bias": c.key_bias if c.alibi else None}

    def feed_forward(self, i: int, w: Weights) -> FeedForward:
        """Build layer i's feed-forward layer."""
        return FeedForward(w, activation=ACTIVATIONS[self.config.activation])


FACTS = Facts(
    grew_from="gptj",
    kind="attention",
    changed="All query heads share one key and value head, later a few",
    why="the cache shrinks by the number of heads; web text alone is enough",
    published="7B",
)
