"""Phi-3, 3.5, Phi-4 and Phi-4-mini (Microsoft 2024–25, arXiv:2404.14219, 2412.08905, 2503.01743).

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention                      | position       | norm    | activation | block      | context       |
|--------------------------------|----------------|---------|------------|------------|---------------|
| MHA, GQA; window 2047 in some  | RoPE, longrope | RMSNorm | SwiGLU     | sequential | 4096 – 131072 |

New in it: textbooks and synthetic text instead of the whole web, and LongRoPE in the long versions: each
rotary pair is slowed down by a factor of its own, found by search, and there are two lists of factors, for
texts up to ``original_max_position_embeddings`` and for longer ones (Ding et al. 2024, arXiv:2402.13753;
kernels/rope.py). Phi-4-mini rotates three quarters of each head. All else is Llama's, with fewer matrices:
one for queries, keys and values, another for gate and up.

The first files call longrope "su", and some "yarn", which elsewhere is another rule. A text that grows past
the original length is read again from its start, once: all that the cache holds was computed with the other
list. So does transformers' ``generate``; its model, called with a cache, does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import FusedAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import equal_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Phi3Config(Config):
    """The keys of a Phi-3 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(32064, letter="V")
    hidden_size: int = key(3072, letter="D")
    intermediate_size: int = key(8192, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = 4096
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 1.0  # null rotates whole heads
    sliding_window: int | None = None
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters: default or longrope."""
        renamed = {name: _renamed(getattr(self, name)) for name in ("rope_scaling", "rope_parameters")}
        found = RopeParameters.read(vars(self) | renamed, head_dim=self.sizes["K"], partial=True)
        rule = found.rope_type
        require(
            rule in ("default", "longrope"), f"rope_type = {rule!r}, but Phi-3 knows default and longrope."
        )
        return found

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)


def _renamed(given: JsonObject | None) -> JsonObject | None:
    """Rename the first files' rules to longrope."""
    if given is None or given.get("rope_type", given.get("type")) not in ("su", "yarn"):
        return given
    return {**given, "rope_type": "longrope"}


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.self_attn.qkv_proj.weight", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_up_proj.weight[:F]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.gate_up_proj.weight[F:]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Phi3Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = FusedAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Phi3(Decoder[Phi3Config]):
    """Phi-3 mini and medium, Phi-3.5-mini, Phi-4 and Phi-4-mini."""

    Config = Phi3Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Phi3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="Fused projections; each rotary pair slowed down by its own factor",
    why="LongRoPE: a model trained on 4096 tokens reads 131072",
    published="3 mini 128k",
)
