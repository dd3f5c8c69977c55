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

New in it: the data, for the RW models showed that text from the web alone, well filtered, is as good as
curated collections (Penedo et al. 2023, arXiv:2306.01116). And G key/value heads, so that a layer can be
divided among G processors, each with keys and values of its own. Hence the layout of the fused projection,
one key/value head after the other: [its queries, its key, its value]. With G = H that is the RW models'
[query, key, value] for each head, with G = 1 it is the 7B's.

ALiBi is added to q·k before both are scaled by 1/√K, and is rounded to bfloat16 (kernels/alibi.py).

The first files, ``RefinedWeb`` (40B) and ``RefinedWebModel`` (7B, RW), came with code of their own and the
same names of tensors. Their config.json has no ``new_decoder_architecture``: it is true where there is
``n_head_kv``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.alibi import alibi_bias_in_bfloat16, alibi_slopes
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import GroupedFusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

FIRST_TYPES = ("RefinedWeb", "RefinedWebModel")
"""What ``model_type`` was in the first files."""
FIRST_DEFAULTS: Mapping[str, object] = {
    "vocab_size": 250880,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "multi_query": False,
}
"""Defaults of their class that differ from today's."""
LATER_KEYS = (
    *("ffn_hidden_size", "activation", "num_ln_in_parallel_attn"),
    *("rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings"),
)
"""Keys that their class did not know."""


@dataclass(frozen=True)
class FalconConfig(Config):
    """The keys of a Falcon config.json that change the mathematics; defaults as in transformers.

    ``multi_query`` is ignored with ``new_decoder_architecture``, and ``num_kv_heads`` with ``multi_query``:
    the 7B's file has 71.
    """

    vocab_size: int = key(65024, letter="V")
    hidden_size: int = key(4544, letter="D", aliases=("n_embed",))
    ffn_hidden_size: int | None = key(None, letter="F")
    num_hidden_layers: int = key(32, letter="L", aliases=("n_layer",))
    num_attention_heads: int = key(71, letter="H", aliases=("n_head",))
    num_kv_heads: int | None = key(None, letter="G", aliases=("n_head_kv",))
    activation: str = activation_key("gelu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_epsilon: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    alibi: bool | None = False
    bias: bool | None = False
    multi_query: bool | None = True
    new_decoder_architecture: bool | None = False
    num_ln_in_parallel_attn: int | None = None
    parallel_attn: bool | None = True
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"apply_residual_connection_post_layernorm": (False, None)}

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Read today's keys, or the first files', where ``n_head_kv`` implies the new architecture."""
        if raw.get("model_type") in FIRST_TYPES:
            raw = {name: value for name, value in raw.items() if name not in LATER_KEYS}
            names = {name: (name, *held.aliases) for name, held in cls.keys().items()}
            absent = {k: value for k, value in FIRST_DEFAULTS.items() if raw.keys().isdisjoint(names[k])}
            grouped = raw.get("n_head_kv") is not None
            raw = {"new_decoder_architecture": grouped, "parallel_attn": grouped, **absent, **raw}
        return super().from_dict(raw)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; G is 1, H, or what the file says, and Q are the heads of a group."""
        one_for_all = self.multi_query and not self.new_decoder_architecture
        found = super().sizes | ({"G": 1} if one_for_all else {})
        return found | {"Q": found["H"] // max(found["G"], 1)}

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None with ALiBi."""
        return None if self.alibi else RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def has_norm_of_each_branch(self) -> bool:
        """Whether each of two parallel branches has a norm."""
        return bool(self.new_decoder_architecture) and self.num_ln_in_parallel_attn != 1

    @property
    def has_second_norm(self) -> bool:
        """Whether the feed-forward layer has a norm of its own."""
        return self.has_norm_of_each_branch or not self.parallel_attn

    @property
    def first_norm(self) -> str:
        """What files call the norm before attention."""
        return "ln_attn" if self.has_norm_of_each_branch else "input_layernorm"

    @property
    def second_norm(self) -> str:
        """What files call the norm before feed-forward."""
        return "ln_mlp" if self.has_norm_of_each_branch else "post_attention_layernorm"

    def check(self) -> None:
        """Refuse contradictions, also those with which transformers fails."""
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


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("word_embeddings.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.{first_norm}.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.{first_norm}.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("h.{i}.self_attention.query_key_value.weight", "(G[QK+2K] D)ᵀ"),
    "blocks.{i}.attention.qkv.bias":       ("h.{i}.self_attention.query_key_value.bias", "G[QK+2K]", "bias"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.self_attention.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.self_attention.dense.bias", "D", "bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.{second_norm}.weight", "D", "has_second_norm"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.{second_norm}.bias", "D", "has_second_norm"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.dense_h_to_4h.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.dense_h_to_4h.bias", "F", "bias"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.dense_4h_to_h.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.dense_4h_to_h.bias", "D", "bias"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention and feed-forward side by side, with one norm or two; in the RW models one after the other."""

    def __init__(self, w: Weights, c: FalconConfig, alibi: Alibi | None):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        rope = None if c.rope is None else c.rope.rotary()
        self.is_parallel = bool(c.parallel_attn)
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = GroupedFusedAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=rope, alibi=alibi
        )
        self.feed_forward_norm: LayerNorm | None = None  # where one norm feeds both
        if c.has_second_norm:
            self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation])
        self.wiring = wiring(c)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        attended = self.attention(normed, step, state)
        x, normed = step.wanted(x), step.wanted(normed)
        if self.is_parallel:
            return tap("residual", x + (attended + self.feed_forward(self.normed_again(x, normed))))
        x = tap("residual_middle", x + attended)
        return tap("residual", x + self.feed_forward(self.normed_again(x, normed)))

    def normed_again(self, x: NDArray, normed: NDArray) -> NDArray:
        """Norm the stream for feed-forward, unless one norm feeds both: (B, T, D) → (B, T, D)."""
        norm = self.feed_forward_norm
        return normed if norm is None else tap("feed_forward_norm", norm(x))


def wiring(c: FalconConfig) -> str:
    """Describe in words how a block is wired."""
    if not c.parallel_attn:
        return "sequential, a norm before each part"
    norms = "a norm for each" if c.has_second_norm else "one norm for both"
    return f"parallel, attention beside feed-forward, {norms}"


class Falcon(Decoder[FalconConfig]):
    """Falcon 7B, 11B, 40B and 180B, and the RW models."""

    Config = FalconConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HGQ",))
    PREFIX = "transformer."

    def build(self, w: Weights, c: FalconConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        slopes, scale = alibi_slopes(c.num_attention_heads), np.float32(c.sizes["K"] ** -0.5)
        alibi = Alibi(lambda positions: alibi_bias_in_bfloat16(slopes, positions) * scale)
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [
            Block(w / f"blocks.{i}", c, alibi if c.alibi else None) for i in range(c.num_hidden_layers)
        ]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gptj",
    kind="attention",
    changed="All query heads share one key/value head, later a few",
    why="the cache shrinks by the number of heads; web text alone is enough",
    published="7B",
)
