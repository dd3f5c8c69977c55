"""GPT-NeoX Japanese (ABEJA 2022): GPT-NeoX, sequential and without biases.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position               | norm      | activation   | block      | context |
|-----------|------------------------|-----------|--------------|------------|---------|
| MHA       | RoPE on the whole head | LayerNorm | GELU (exact) | sequential | 2048    |

New in it, beside GPT-NeoX (gpt_neox.py; Black et al. 2022, arXiv:2204.06745): a Japanese vocabulary of 32 000
pieces, emoji among them, with bytes for the rest. The branches of a block are sequential again. No linear
layer has a bias but one, the output of attention in the last block.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import GroupedFusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GPTNeoXJapaneseConfig(Config):
    """The keys of its config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_multiple_size: int = key(4, least=1)
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    hidden_act: str = activation_key("gelu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    rotary_emb_base: float = key(10000.0, null_is_silence=True)
    rotary_pct: float = key(1.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    tie_word_embeddings: bool = True

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; the config gives F as a multiple of D."""
        return super().sizes | {"F": self.hidden_size * self.intermediate_multiple_size}

    @property
    def last_layer(self) -> Collection[int]:
        """The layer whose attention has a bias."""
        return [self.num_hidden_layers - 1]

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, whose base and part have other names in other configs."""
        renamed = {"rope_theta": self.rotary_emb_base, "partial_rotary_factor": self.rotary_pct}
        return RopeParameters.read(vars(self) | renamed, head_dim=self.sizes["K"], partial=True)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_in.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.attention.query_key_value.weight", "(H3K D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.attention.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.attention.dense_bias", "D", "last_layer"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.dense_h_to_4h.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.dense_4h_to_h.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("final_layer_norm.weight", "D"),
    "final_norm.bias":                     ("final_layer_norm.bias", "D"),
    "head.weight":                         ("embed_out.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GPTNeoXJapaneseConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_eps)
        self.attention = GroupedFusedAttention(w / "attention", heads=H, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class GPTNeoXJapanese(Decoder[GPTNeoXJapaneseConfig]):
    """GPT-NeoX Japanese 2.7B."""

    Config = GPTNeoXJapaneseConfig
    WEIGHTS = WEIGHTS
    PREFIX = "gpt_neox_japanese."
    OTHER_NAMES: ClassVar = {r"lm_head\.weight": "embed_out.weight"}
    # Old versions saved the causal mask and the rotary frequencies as buffers.
    IGNORED = r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)"

    def build(self, w: Weights, c: GPTNeoXJapaneseConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gpt_neox",
    kind="block",
    changed="Sequential branches; no biases but one; whole heads rotated",
    why="a vocabulary for Japanese",
    published="2.7B",
)
