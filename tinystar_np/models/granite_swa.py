"""Granite SWA (IBM 2026), 2B: Granite with windows, sinks, and a base of the rotations for each layer.

    x₀ = e · embedding
    x → norm → attention with sinks → · r ──+ x → norm → feed-forward → · r ──+ x      (× L)
    logits = norm(x) · W / l

| attention                    | position                   | norm    | activation | block      | context |
|------------------------------|----------------------------|---------|------------|------------|---------|
| GQA 20:4; window 128 in 3 of | RoPE, none in layers whose | RMSNorm | SwiGLU     | sequential | 8192    |
| 4 layers                     | base is 0                  |         |            |            |         |

New in it, beside Granite (granite.py): three of four layers see the last 128 tokens; the first and every
fourth after it see all. Each head has a sink, a learned score without a value (Xiao et al. 2023,
arXiv:2309.17453), as in gpt-oss (gpt_oss.py): transformers multiplies the mean of the values by the sigmoid
of the scores' log-sum-exp less the sink, which is the same. Each layer may have a base of the rotations of
its own, and 0 stands for none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GraniteSwaConfig(Config):
    """The keys of a Granite SWA config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(100352, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(8192, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(20, letter="H")
    num_key_value_heads: int | None = key(4, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = key(1.0, not_zero="but the logits are divided by it")
    sliding_window: int | None = 128
    layer_types: list[str] | None = None
    layer_rope_theta: list[float] | None = None
    tie_word_embeddings: bool = True

    @property
    def ropes(self) -> Sequence[RopeParameters | None]:
        """The rotary embedding's parameters in each layer; None where nothing rotates."""
        if self.layer_rope_theta is None:
            return [RopeParameters.read(vars(self), head_dim=self.sizes["K"])] * self.num_hidden_layers
        L, named = self.num_hidden_layers, len(self.layer_rope_theta)
        require(named == L, f"layer_rope_theta names {named} layers, but num_hidden_layers = {L}.")
        return [self.rope_of(theta) if theta else None for theta in self.layer_rope_theta]

    def rope_of(self, theta: float) -> RopeParameters:
        """Read the rotary embedding's parameters with another base."""
        keys = vars(self) | {"rope_theta": theta}
        if self.rope_parameters is not None:
            keys |= {"rope_parameters": {**self.rope_parameters, "rope_theta": theta}, "rope_theta": None}
        return RopeParameters.read(keys, head_dim=self.sizes["K"])

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters in the first layer that has one."""
        return next((rope for rope in self.ropes if rope is not None), None)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; where no file names them, the first and every fourth have none."""
        usual = [SLIDING if i % 4 else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.sinks":          ("layers.{i}.self_attn.sinks", "H"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":   ("layers.{i}.mlp.gate_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.down_proj.bias", "D", "mlp_bias"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Each branch reads a normed copy of the residual stream and adds r times its result."""

    def __init__(self, w: Weights, c: GraniteSwaConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        rope = c.ropes[i]
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=c.attention_multiplier,
            rope=rope.rotary() if rope else None, window=c.windows[i],
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.residual_multiplier = np.float32(c.residual_multiplier)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_scaled", self.attention(normed, step, state) * self.residual_multiplier)
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        y = tap("feed_forward_scaled", self.feed_forward(normed) * self.residual_multiplier)
        return tap("residual", x + y)


class GraniteSwa(Decoder[GraniteSwaConfig]):
    """Granite with windows and sinks, 2B."""

    Config = GraniteSwaConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: GraniteSwaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply: ids (B, T) → (B, T, D)."""
        x = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", x * np.float32(self.config.embedding_multiplier))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and divide: (B, T, D) → (B, T, V)."""
        return self.head(x) / np.float32(self.config.logits_scaling)


FACTS = Facts(
    grew_from="granite",
    kind="attention",
    changed="Windows in three of four layers, a sink in each head, a base for each layer",
    why="a quarter of the cache, and heads that need not attend",
    published="2B",
    keys={"num_hidden_layers": 4},
)
