"""Helium 1 (Kyutai 2025): Llama with neighbouring rotary pairs.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention               | position              | norm    | activation | block      | context |
|-------------------------|-----------------------|---------|------------|------------|---------|
| MHA (preview); GQA (2B) | RoPE, neighbour pairs | RMSNorm | SwiGLU     | sequential | 4096    |

New in it: its training. Small classifiers chose its text paragraph by paragraph, and its targets are the
probabilities that a larger model gives to each next token, not the token alone (distillation; Hinton et al.
2015, arXiv:1503.02531). The model itself is Llama (llama.py) with the rotary pairs of GPT-J (gptj.py) and an
epsilon of 10⁻⁸.
"""

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
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class HeliumConfig(Config):
    """The keys of a Helium config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(48000, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(7040, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(20, letter="H")
    num_key_value_heads: int = key(20, letter="G")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-8, above=0)
    rope_theta: float = key(100000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse heads that together are not as wide as the model."""
        super().check()
        D, H, K = self.hidden_size, self.num_attention_heads, self.head_dim
        require(
            D == H * K,
            f"hidden_size = {D} is not num_attention_heads = {H} times head_dim = {K}, but the output of "
            "attention is read by a square matrix.",
        )


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

    def __init__(self, w: Weights, c: HeliumConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(interleaved=True)
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


class Helium(Decoder[HeliumConfig]):
    """Helium 1, the preview and the model of 2B."""

    Config = HeliumConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: HeliumConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="Rotary pairs are neighbours",
    why="another layout of the same rotation; what is new is its training",
    published="1 preview",
)
