"""MPT 7B and 30B (MosaicML 2023): ALiBi, and no layer has a bias.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position | norm                    | activation   | block      | context                    |
|-----------|----------|-------------------------|--------------|------------|----------------------------|
| MHA       | ALiBi    | LayerNorm, without bias | GELU (exact) | sequential | 2048; 65536 in StoryWriter |

New in it: measures for a stable training. No biases, not even in the norms; in some models queries, keys and
values are clipped to ±``clip_qkv``. And the length: ALiBi extends beyond the trained length (Press, Smith &
Lewis 2022, arXiv:2108.12409), and StoryWriter was tuned on whole books.

transformers knows fewer variants than MosaicML's own code. Keys that it ignores, so that it would compute
something else than the model was trained for, are refused here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import FusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

ONLY: Mapping[str, object] = {
    "alibi": True,
    "alibi_bias_max": 8,
    "attn_type": "multihead_attention",
    "prefix_lm": False,
    "qk_ln": False,
}
"""Keys of ``attn_config`` that have one value here."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class MptConfig(Config):
    """The keys of an MPT config.json that change the mathematics; defaults as in transformers.

    ``learned_pos_emb``, true in the files on the hub, is ignored with ``alibi``.
    """

    vocab_size: int = key(50368, letter="V")
    hidden_size: int = key(2048, letter="D", aliases=("d_model",))
    num_hidden_layers: int = key(24, letter="L", aliases=("n_layers",))
    num_attention_heads: int = key(16, letter="H", aliases=("n_heads",))
    max_seq_len: int = key(2048, letter="C", is_trained_length=True)
    layer_norm_epsilon: float = key(1e-5, above=0)
    attn_config: JsonObject | None = None
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {
        "expansion_ratio": (4,),
        "logit_scale": (None,),
        "no_bias": (True,),
        "norm_type": ("layernorm", "low_precision_layernorm"),
    }

    @property
    def clip(self) -> float | None:
        """The largest absolute value of queries, keys and values; None for no limit, which 0 means too."""
        return (self.attn_config or {}).get("clip_qkv") or None

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        given: float | None = (self.attn_config or {}).get("softmax_scale")
        return self.sizes["K"] ** -0.5 if given is None else given

    def check(self) -> None:
        """Refuse contradictions, and what is not implemented."""
        super().check()
        given = self.attn_config or {}
        for name, value in ONLY.items():
            found = given.get(name, value)
            require(found == value, f"attn_config.{name} = {shown(found)} is not implemented; {value!r} is.")
        for name in ("clip_qkv", "softmax_scale"):
            found = given.get(name)
            number = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= LARGEST
            require(
                found is None or number,
                f"attn_config.{name} = {shown(found)}, but it must be null or a number, at least 0.",
            )


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("blocks.{i}.norm_1.weight", "D"),
    "blocks.{i}.attention.qkv.weight":     ("blocks.{i}.attn.Wqkv.weight", "(3HK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("blocks.{i}.attn.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("blocks.{i}.norm_2.weight", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("blocks.{i}.ffn.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("blocks.{i}.ffn.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm_f.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: MptConfig, alibi: Alibi):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = FusedAttention(
            w / "attention", heads=H, head_dim=K, scale=c.scale, clip=c.clip, alibi=alibi
        )
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS["gelu"])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Mpt(Decoder[MptConfig]):
    """MPT 7B and 30B, base, instruct, chat and StoryWriter."""

    Config = MptConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."

    def build(self, w: Weights, c: MptConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        alibi = Alibi(partial(alibi_bias, alibi_slopes(c.num_attention_heads)))
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, alibi) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="bloom",
    kind="block",
    changed="No biases anywhere; queries, keys and values clipped",
    why="long training runs stay stable; ALiBi reaches beyond the trained length",
    published="7B",
    keys={"d_model": 4096, "n_heads": 32},
)
