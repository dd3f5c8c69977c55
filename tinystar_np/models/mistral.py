"""Mistral 7B (Jiang et al. 2023, arXiv:2310.06825): Llama with a window.

    x → norm → attention to the last W tokens ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention        | position | norm    | activation | block      | context                    |
|------------------|----------|---------|------------|------------|----------------------------|
| GQA, window 4096 | RoPE     | RMSNorm | SwiGLU     | sequential | 32768 (v0.1: by the window) |

New in it: at 7B, grouped queries and a window, so that the cache stops growing at 4096 tokens; information
from farther back travels one window per layer. Later versions (from v0.2) have no window and say
``sliding_window: null``. All else, names of weights included, is as in Llama (llama.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import equal_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class MistralConfig(Config):
    """The keys of a Mistral config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    sliding_window: int | None = 4096
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: MistralConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
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


class Mistral(Decoder[MistralConfig]):
    """Mistral 7B, Mistral Nemo, and the models that are built like them."""

    Config = MistralConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: MistralConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="attention",
    changed="Shared keys and values at 7B, and a window of 4096",
    why="the cache stops growing; information travels one window per layer",
    published="7B v0.1",
)
