"""nanochat (Karpathy 2025): a small chat model, its norms without gains.

    x = norm(embedding)
    x → norm → attention, q and k rotated, then normed ──+ x → norm → feed-forward ──+ x      (× L)
    logits = cap(norm(x) · W)

| attention           | position        | norm                    | activation | block      | context |
|---------------------|-----------------|-------------------------|------------|------------|---------|
| MHA; norms of each  | RoPE, backwards | RMSNorm without gain;   | ReLU²      | sequential | 2048    |
| rotated q and k     |                 | one after the embedding |            |            |         |

New in it: no norm has a gain and no layer a bias, so that every weight is a matrix. The embedding is normed
before the first block. Queries and keys are normed after they rotate, not before as in Qwen3 (qwen3.py);
without gains that is the same, up to rounding. Pairs rotate in the opposite direction to Llama's. Logits are
capped as in Gemma 2. ReLU² is Primer's (So et al. 2021, arXiv:2109.08668). Many of these choices come from
modded-nanogpt, a contest for the fastest training of a model of GPT-2's size.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.attention import capped
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import FrequenciesByLength, Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class NanoChatConfig(Config):
    """The keys of a nanochat config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(50304, letter="V")
    hidden_size: int = key(768, letter="D")
    intermediate_size: int = key(8192, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(6, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("relu2")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    final_logit_softcapping: float | None = key(15.0, above=0)
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.fc2.weight", "(D F)ᵀ"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: NanoChatConfig):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = unit_norm(c.hidden_size, c.rms_norm_eps)
        self.attention = RotatedNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=backward(c.rope)
        )
        self.attention.unit_norm = unit_norm(K, c.rms_norm_eps)
        self.feed_forward_norm = unit_norm(c.hidden_size, c.rms_norm_eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class RotatedNormAttention(Attention):
    """Attention that norms each query and key after it is rotated.

    unit_norm  a norm without gain
    """

    unit_norm: RMSNorm
    remark = "rotated queries and keys normed"

    def rotated(self, q: NDArray, k: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Rotate queries and keys by their positions and norm them."""
        q, k = super().rotated(q, k, step)
        return tap("attention.q_norm", self.unit_norm(q)), tap("attention.k_norm", self.unit_norm(k))


def unit_norm(width: int, eps: float) -> RMSNorm:
    """Build a norm without gain."""
    return RMSNorm(Weights({"gain": np.ones(width, dtype=np.float32)}), eps=eps)


@cache
def backward(rope: RopeParameters) -> Rotary:
    """Return the layer that rotates pairs in the opposite direction, the same object for equal parameters."""
    forward = rope.frequencies()
    if isinstance(forward, FrequenciesByLength):
        turned = FrequenciesByLength(lambda length: -forward(length), forward.shortest, forward.longest)
        return Rotary(turned, attention_factor=rope.attention_factor, rule=rope)
    return Rotary(-forward, attention_factor=rope.attention_factor, rule=rope)


class NanoChat(Decoder[NanoChatConfig]):
    """nanochat in its depths, such as d20 and d32."""

    Config = NanoChatConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: NanoChatConfig) -> None:
        """Build the embedding and its norm, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.embedding_norm = unit_norm(c.hidden_size, c.rms_norm_eps)
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = unit_norm(c.hidden_size, c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and norm them: ids (B, T) → (B, T, D)."""
        return tap("embedding", self.embedding_norm(tap("embedding.tokens", self.embedding(ids))))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, none above the cap: (B, T, D) → (B, T, V)."""
        cap, logits = self.config.final_logit_softcapping, self.head(x)
        return logits if cap is None else capped(tap("logits_before_cap", logits), cap)


FACTS = Facts(
    grew_from="qwen3",
    kind="block",
    changed="Norms without gains, one after the embedding; ReLU²; capped logits",
    why="fewer parts; every weight is a matrix",
    published="d32",
    keys={"hidden_size": 2048, "num_attention_heads": 16, "intermediate_size": 8192, "vocab_size": 65536},
)
