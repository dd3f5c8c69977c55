"""Persimmon 8B (Elsen et al. 2023, adept.ai/blog/persimmon-8b): squared ReLU, and norms of queries and keys.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention             | position                      | norm      | activation | block      | context |
|-----------------------|-------------------------------|-----------|------------|------------|---------|
| MHA; norms of q and k | RoPE, first half of each head | LayerNorm | ReLU²      | sequential | 16384   |

New in it: relu(x)² between the matrices of the feed-forward layer, which So et al. (2021, arXiv:2109.08668)
found by search; most of what the second matrix multiplies is then 0. A layer norm of each head's queries and
keys, which keeps large models from diverging (Dehghani et al. 2023, arXiv:2302.05442). The fused projection
holds [query, key, value] for each head; every linear layer has a bias but the last. No text uses the last
70 000 of its 262 144 tokens: they were kept for images.
"""

from dataclasses import dataclass
from functools import partial

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
class PersimmonConfig(Config):
    """The keys of a Persimmon config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(262144, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(16384, letter="F")
    num_hidden_layers: int = key(36, letter="L")
    num_attention_heads: int = key(64, letter="H")
    hidden_act: str = activation_key("relu2")
    max_position_embeddings: int = key(16384, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    qk_layernorm: bool = True
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.5
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.self_attn.query_key_value.weight", "(H3K D)ᵀ"),
    "blocks.{i}.attention.qkv.bias":       ("layers.{i}.self_attn.query_key_value.bias", "H3K"),
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_layernorm.weight", "K", "qk_layernorm"),
    "blocks.{i}.attention.q_norm.bias":    ("layers.{i}.self_attn.q_layernorm.bias", "K", "qk_layernorm"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_layernorm.weight", "K", "qk_layernorm"),
    "blocks.{i}.attention.k_norm.bias":    ("layers.{i}.self_attn.k_layernorm.bias", "K", "qk_layernorm"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.dense.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.dense_h_to_4h.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.dense_h_to_4h.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.dense_4h_to_h.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.dense_4h_to_h.bias", "D"),
    "final_norm.gain":                     ("final_layernorm.weight", "D"),
    "final_norm.bias":                     ("final_layernorm.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: PersimmonConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        norm = partial(LayerNorm, eps=c.layer_norm_eps)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = GroupedFusedAttention(
            w / "attention", heads=H, head_dim=K, rope=c.rope.rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")) if c.qk_layernorm else None,
        )  # fmt: skip
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Persimmon(Decoder[PersimmonConfig]):
    """Persimmon 8B, base and chat."""

    Config = PersimmonConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."
    IGNORED = r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"  # saved as a buffer by old versions

    def build(self, w: Weights, c: PersimmonConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gpt_neox",
    kind="block",
    changed="Squared ReLU; norms of queries and keys; one branch after the other",
    why="most features are 0, and scores stay bounded",
    published="8B",
)
