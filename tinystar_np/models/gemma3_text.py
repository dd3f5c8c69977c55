"""Gemma 3, its text models (Gemma Team 2025, arXiv:2503.19786): short windows in five layers of six.

    x₀ = √D · embedding
    x → norm → attention → norm ──+ x → norm → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention                | position        | norm              | activation   | block    | context    |
|--------------------------|-----------------|-------------------|--------------|----------|------------|
| GQA, norms of q and k;   | RoPE, base 10⁴  | RMSNorm, gain 1+w | GeGLU (tanh) | sandwich | 32768 (1B) |
| window 512 in 5 of 6     | near, 10⁶ far   |                   |              |          |            |

New in it, beside Gemma 2 (gemma2.py): long texts cost less. One layer in six attends to the whole text, and
the windows of the others are short, so that the cache is a sixth of what it was. Each kind has a base of its
rotary embedding: 10⁴ with a window; 10⁶ without, and in the larger models a linear scaling by 8. Instead of
caps, queries and keys are normed head by head (Henry et al. 2020, arXiv:2010.04245; Dehghani et al. 2023,
arXiv:2302.05442): that bounds the scores as well, and leaves the softmax alone.
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
from tinystar_np.kernels.attention import capped
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.models.vision_part import with_images
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Gemma3TextConfig(Config):
    """The keys of a Gemma 3 config.json that change the mathematics; defaults as in transformers.

    Each kind of layer has its own rotary embedding. Files have ``rope_parameters`` for each kind; old ones
    have ``rope_theta`` and ``rope_scaling`` for layers with full attention and ``rope_local_base_freq`` for
    the others. transformers does not apply a cap to the scores, though its config class has the key.
    """

    vocab_size: int = key(262208, letter="V")
    hidden_size: int = key(2304, letter="D")
    intermediate_size: int = key(9216, letter="F")
    num_hidden_layers: int = key(26, letter="L")
    num_attention_heads: int = key(8, letter="H")
    num_key_value_heads: int | None = key(4, letter="G")
    head_dim: int | None = key(256, letter="K")
    hidden_activation: str = activation_key("gelu_pytorch_tanh")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(1e6, null_is_silence=True)
    rope_local_base_freq: float = key(1e4, above=0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    query_pre_attn_scalar: float = key(256, above=0)
    sliding_window: int | None = 4096
    sliding_window_pattern: int | None = 6
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = key(None, above=0)
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {
        "use_bidirectional_attention": (None, False),
        "attn_logit_softcapping": (None,),
    }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in layers with full attention."""
        return self.ropes[FULL]

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rotary embedding's parameters in each kind of layer."""
        far = vars(self)
        near = {**far, "rope_scaling": None, "rope_theta": self.rope_local_base_freq}
        kinds = {FULL: far, SLIDING: near}
        return {
            kind: RopeParameters.read(keys, head_dim=self.sizes["K"], kind=kind)
            for kind, keys in kinds.items()
        }

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every n-th has none, where the file does not name them."""
        named = self.layer_types is not None
        n = 1 if named else at_least_1("sliding_window_pattern", self.sliding_window_pattern)
        usual = [SLIDING if (i + 1) % n else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    def check(self) -> None:
        """Refuse contradictions."""
        given = self.rope_parameters or {}
        flat = {name: value for name, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {shown(flat)} outside of the two kinds of layers.")
        require(
            not (given and self.rope_scaling),
            "rope_scaling and rope_parameters are both there; the one is the other's old name.",
        )
        super().check()


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":         ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":            ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":            ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":            ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain":       ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain":       ("layers.{i}.self_attn.k_norm.weight", "K"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":          ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.gain":      ("layers.{i}.pre_feedforward_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":    ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":      ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":    ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
    "final_norm.gain":                        ("norm.weight", "D"),
    "head.weight":                            ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Each branch reads a normed copy of the residual stream, norms its result, and adds it."""

    def __init__(self, w: Weights, c: Gemma3TextConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        rope = c.ropes[SLIDING if c.windows[i] else FULL]
        norm = partial(RMSNorm, eps=c.rms_norm_eps, offset=1.0)
        self.attention_norm, self.attention_post_norm = (
            norm(w / "attention_norm"),
            norm(w / "attention_post_norm"),
        )
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=c.query_pre_attn_scalar**-0.5,
            rope=rope.rotary(), window=c.windows[i],
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
        )  # fmt: skip
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_activation])
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(normed, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(normed)))
        return tap("residual", x + y)


class Gemma3Text(Decoder[Gemma3TextConfig]):
    """Gemma 3 270M and 1B, and the text part of the larger ones, which also read images."""

    Config = Gemma3TextConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Gemma3TextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps, offset=1.0)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by √D: ids (B, T) → (B, T, D); images are not multiplied."""
        x = self.embedding(ids) * np.sqrt(np.float32(self.config.hidden_size))
        x = tap("embedding.tokens", x)  # transformers' embedding multiplies as well
        return tap("embedding", x if step.images is None else with_images(x, step))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, within the soft cap: (B, T, D) → (B, T, V)."""
        cap, logits = self.config.final_logit_softcapping, self.head(x)
        return logits if cap is None else capped(tap("logits_before_cap", logits), cap)


FACTS = Facts(
    grew_from="gemma2",
    kind="attention",
    changed="Five layers with a window for each with full attention; two RoPE bases",
    why="a sixth of the cache; norms of q and k replace the caps",
    published="4B",
    keys={"num_hidden_layers": 6, "sliding_window": 1024},
)
