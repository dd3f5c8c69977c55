"""Llama (Touvron et al. 2023, arXiv:2302.13971, 2307.09288; Meta 2024, arXiv:2407.21783), 1 to 3.2.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention              | position | norm    | activation | block      | context                |
|------------------------|----------|---------|------------|------------|------------------------|
| MHA; GQA from 2-70B on | RoPE     | RMSNorm | SwiGLU     | sequential | 2048 in 1, 131072 in 3.1 |

New in it: nothing but the choice. RMS norm instead of layer norm, rotary positions instead of learned ones,
a gated feed-forward layer and no biases were each known; together, trained on far more text than was thought
useful for the size, they became what most decoders since are made of. Llama 3 took a vocabulary of 128256
and a RoPE base of 500000; 3.1 slows the slow rotations by 8 to read sixteen times as far; in 3.2's small
models the output layer is the embedding table.
"""

from dataclasses import dataclass
from typing import ClassVar

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
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class LlamaConfig(Config):
    """The keys of a Llama config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


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
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: LlamaConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Llama(Decoder[LlamaConfig]):
    """Llama 1, 2, 3, 3.1 and 3.2 (text), and the many models that are built like them."""

    Config = LlamaConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # the first files of Yi
        r"layers\.(\d+)\.ln1\.weight": r"layers.\1.input_layernorm.weight",
        r"layers\.(\d+)\.ln2\.weight": r"layers.\1.post_attention_layernorm.weight",
    }

    def build(self, w: Weights, c: LlamaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gpt2",
    kind="block",
    changed="RMSNorm, rotary positions, gated feed-forward, no biases; later shared keys",
    why="each was known to help; together they became the standard",
    published="3.1 8B",
    keys={"num_key_value_heads": 8},
)
