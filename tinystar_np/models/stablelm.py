"""StableLM (Stability AI 2023–24, arXiv:2402.17834): 3B, 2 in 1.6B and 12B, and Stable Code.

    3B, 1.6B  x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    12B       x → norm ─┬→ attention ────┬→ + x                           (× L)
                        └→ feed-forward ─┘
    logits = norm(x) · W

| attention     | position                         | norm      | activation | block                | context |
|---------------|----------------------------------|-----------|------------|----------------------|---------|
| MHA; GQA 32:8 | RoPE, first quarter of each head | LayerNorm | SwiGLU     | sequential; parallel | 4096    |

New in it: Llama's blocks with GPT-NeoX's LayerNorm and partial rotation (gpt_neox.py): a quarter of each head
is rotated, which costs little quality and saves some work. 1.6B has biases on queries, keys and values. 12B
has attention and feed-forward side by side after one norm, and norms queries and keys, each head with a gain
of its own.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, LayerNorm, Linear
from tinystar_np.layers.head_norm import LayerNormOfHeads
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class StableLmConfig(Config):
    """The keys of a StableLM config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(50304, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(6912, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(32, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.25  # null rotates whole heads
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    use_qkv_bias: bool = False
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Read today's keys, or those of the first files."""
        if raw.get("model_type") != "stablelm_epoch":
            return super().from_dict(raw)
        return cls(**vars(FirstStableLmConfig.from_dict(raw)))

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)


@dataclass(frozen=True)
class FirstStableLmConfig(Config):
    """The keys of 3B and 2-1.6B as they were first published, with code of their own: ``stablelm_epoch``."""

    vocab_size: int = key(50304, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(6912, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H", aliases=("num_heads",))
    num_key_value_heads: int | None = key(32, letter="G")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0, aliases=("norm_eps",))
    rope_theta: float = key(10000.0, null_is_silence=True)
    partial_rotary_factor: float | None = key(0.25, aliases=("rope_pct",))
    use_qkv_bias: bool = False
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {"rotary_scaling_factor": (1.0, None)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "use_qkv_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "use_qkv_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "use_qkv_bias"),
    "blocks.{i}.attention.q_norm.{h}.gain":
        ("layers.{i}.self_attn.q_layernorm.norms.{h}.weight", "K", "qk_layernorm"),
    "blocks.{i}.attention.k_norm.{g}.gain":
        ("layers.{i}.self_attn.k_layernorm.norms.{g}.weight", "K", "qk_layernorm"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":
        ("layers.{i}.post_attention_layernorm.weight", "D", "not use_parallel_residual"),
    "blocks.{i}.feed_forward_norm.bias":
        ("layers.{i}.post_attention_layernorm.bias", "D", "not use_parallel_residual"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "final_norm.bias":                     ("norm.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention and feed-forward: one after the other, or side by side after the same norm."""

    def __init__(self, w: Weights, c: StableLmConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(LayerNorm, eps=c.layer_norm_eps)
        norms = None
        if c.qk_layernorm:
            own = w.heads(H, G)
            norms = (
                norm_of_heads(w / "attention.q_norm", own.heads, c),
                norm_of_heads(w / "attention.k_norm", own.groups, c),
            )
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), norms=norms
        )
        self.feed_forward_norm = None if c.use_parallel_residual else norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = self.attention(normed, step, state)
        if self.feed_forward_norm is None:  # side by side
            y = y + self.feed_forward(step.wanted(normed))
            return tap("residual", step.wanted(x) + y)
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def norm_of_heads(w: Weights, heads: range, c: StableLmConfig) -> LayerNormOfHeads:
    """Build the norm of queries, or of keys, whose gains are one tensor per head in the file."""
    gains = np.stack([w[f"{h}.gain"] for h in heads])  # (heads, K)
    return LayerNormOfHeads(Weights({"gain": gains}), eps=c.layer_norm_eps)


class StableLm(Decoder[StableLmConfig]):
    """StableLM 3B, StableLM 2, Stable Code, and the models that are built like them."""

    Config = StableLmConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: StableLmConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="LayerNorm, and rotary positions in a quarter of each head, as in NeoX",
    why="some work saved at little cost in quality",
    published="3B",
)
