"""Baichuan 1 and 2 (Baichuan 2023, arXiv:2309.10305): RoPE in 7B, ALiBi in 13B, NormHead in 2.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W                    Baichuan 1
    logits_v = norm(x) · w_v / ‖w_v‖        Baichuan 2, for each token v of the vocabulary

| attention | position               | norm    | activation | block      | context |
|-----------|------------------------|---------|------------|------------|---------|
| MHA       | RoPE (7B), ALiBi (13B) | RMSNorm | SwiGLU     | sequential | 4096    |

New in it: NormHead. Each row of Baichuan 2's output layer is scaled to length 1, so that a logit depends on
the direction of a token's vector and not on its length: the rows of rare tokens shrink in training, whatever
the tokens mean. The makers also saw more stable training. Queries, keys and values come from one matrix. The
rest is Llama (llama.py); the 13B models have ALiBi instead of rotations (bloom.py; Press et al. 2021,
arXiv:2108.12409).

All these models share one ``model_type``, though each repository has its own code. They are told apart by
their keys: 7B has ``max_position_embeddings``, 13B has ``model_max_length`` alone. Baichuan 2 has a
vocabulary of 125696 tokens; files with another one still have ``z_loss_weight``, the weight of a training
loss that Baichuan 1 never had.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import FusedAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

SECOND_VOCABULARY = 125696
"""The size of Baichuan 2's vocabulary; Baichuan 1's is 64000."""
ROWS = 4096
"""How many rows of a packed matrix are unpacked at once."""
LEAST_NORM = np.float32(1e-12)
"""Rows are divided by at least this, as in torch."""


@dataclass(frozen=True)
class BaichuanConfig(Config):
    """The keys of a Baichuan config.json that change the mathematics; defaults as in the makers' classes."""

    vocab_size: int = key(125696, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int | None = None
    model_max_length: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    z_loss_weight: float | None = None
    tie_word_embeddings: bool = False

    @property
    def trained_length(self) -> int | None:
        """The context length in training."""
        return self.model_max_length if self.max_position_embeddings is None else self.max_position_embeddings

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None where ALiBi takes its place."""
        if self.max_position_embeddings is None:
            return None
        return RopeParameters("default", 10000.0, self.sizes["K"])

    @property
    def has_norm_head(self) -> bool:
        """Whether the rows of the output layer are scaled to length 1."""
        return self.vocab_size == SECOND_VOCABULARY or self.z_loss_weight is not None


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.self_attn.W_pack.weight", "(3HK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class NormHead(Linear):
    """An output layer whose vector of each token is scaled to length 1: y_v = x · w_v / ‖w_v‖.

    w  ``weight`` (D, V), an array or a packed matrix
    """

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """‖w_v‖ of each token: (V,). Computed once, in pieces, since the unpacked matrix is large."""
        rows, V = self.weight.T, self.weight.shape[1]
        some = (fast.embedding(np.arange(i, min(i + ROWS, V)), rows) for i in range(0, V, ROWS))
        return np.concatenate([np.maximum(np.linalg.norm(each, axis=-1), LEAST_NORM) for each in some])

    def of_product(self, y: NDArray) -> NDArray:
        """Divide a product by the norms of the tokens that this rank has."""
        return super().of_product(y / self.norms)


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: BaichuanConfig, alibi: Alibi):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        positions = {"alibi": alibi} if c.rope is None else {"rope": c.rope.rotary()}
        self.attention = FusedAttention(w / "attention", heads=H, head_dim=K, **positions)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Baichuan(Decoder[BaichuanConfig]):
    """Baichuan and Baichuan 2 in 7B and 13B."""

    Config = BaichuanConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: BaichuanConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        alibi = Alibi(partial(alibi_bias, alibi_slopes(c.num_attention_heads)))
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, alibi) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = (NormHead if c.has_norm_head else Linear)(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="ALiBi in the larger models; rows of the output layer scaled to length 1",
    why="logits do not depend on how often a token was seen",
    published="2 7B",
)
