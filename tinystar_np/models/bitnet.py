"""BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764; 2B4T, 2025, arXiv:2504.12285): weights of −1, 0 and 1.

    x → norm → attention → norm → out ──+ x → norm → feed-forward, a norm within ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention                  | position | norm    | activation      | block              | context |
|----------------------------|----------|---------|-----------------|--------------------|---------|
| GQA; a norm before the     | RoPE     | RMSNorm | ReLU², gated; a | sequential, four   | 4096    |
| output                     |          |         | norm after it   | norms              |         |

New in it: all matrices of the blocks are ternary, −1, 0 and 1 with one scale (kernels/ternary.py), in
training as well, so that they take an eighth of the memory of bfloat16 and need no multiplications. Their
inputs are quantized to 8 bits, each token's vector with its own scale; a norm stands before every matrix,
since a scale set by a vector's largest entry suits entries of similar size. Embedding and output layer are
not quantized.

The rounding of inputs belongs to the model where config.json has a ``quantization_config`` of the method
"bitnet", as published. A number halfway between two steps then makes a whole step of difference between
programs that sum in different orders, and between a prompt read at once and in pieces; transformers differs
from itself in the same way.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.packed_formats import rounds_activations
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, Activation
from tinystar_np.kernels.ternary import rounded_vectors
from tinystar_np.layers.attention import Attention, heads_apart, heads_joined
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Norm, RMSNorm, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class BitNetConfig(Config):
    """The keys of a BitNet config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(128256, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(6912, letter="F")
    num_hidden_layers: int = key(30, letter="L")
    num_attention_heads: int = key(20, letter="H")
    num_key_value_heads: int | None = key(5, letter="G")
    hidden_act: str = activation_key("relu2")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False
    quantization_config: JsonObject | None = None

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def rounds(self) -> bool:
        """Whether the inputs of ternary matrices are rounded to 8 bits."""
        return rounds_activations(self.quantization_config)

    def check(self) -> None:
        """Refuse contradictions, and biases that transformers treats in two ways."""
        super().check()
        form = self.quantization_config or {}
        scaled = form.get("linear_class") == "autobitlinear" and form.get("quantization_mode") != "online"
        require(
            not (self.attention_bias and self.rounds and scaled),
            "attention_bias = True is not implemented for ternary weights that are multiplied by a scale: "
            "transformers multiplies the biases as well, in this form alone of three.",
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
    "blocks.{i}.attention.norm.gain":      ("layers.{i}.self_attn.attn_sub_norm.weight", "HK"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.norm.gain":   ("layers.{i}.mlp.ffn_sub_norm.weight", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


def unchanged(x: NDArray) -> NDArray:
    """Return the input: for models whose inputs are not rounded."""
    return x


def of_all_ranks(w: Weights, rounded: Norm) -> Norm:
    """Return what rounds vectors of which ranks have parts, in steps of the whole vector's largest number."""
    division = w.division
    if division is None or rounded is unchanged:
        return rounded
    return lambda x: rounded_vectors(x, division.largest(np.abs(x).max(axis=-1, keepdims=True)))


class BitAttention(Attention):
    """Self-attention with a norm of the joined heads before the output matrix, and rounded inputs.

    w        as of ``Attention``, and ``norm`` with its gain (H·K,)
    rounded  applied to the input of each matrix
    """

    def __init__(
        self, w: Weights, *, heads: int, kv_heads: int, head_dim: int, rope: Rotary, eps: float, rounded: Norm
    ):
        super().__init__(w, heads=heads, kv_heads=kv_heads, head_dim=head_dim, rope=rope)
        self.norm = RMSNorm(w / "norm", eps=eps)
        self.rounded, self.rounded_heads = rounded, of_all_ranks(w, rounded)

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before; arguments as of ``Attention``."""
        q, k, v = self.projected(self.rounded(x), step)
        q, k = self.rotated(q, k, step)
        keys, values, positions = step.remember(k, v, state)
        y = self.attend(q, keys, values, step.mask(positions, self.limits()), step)
        y = self.norm(heads_joined(tap("attention.before_norm", y)))  # (B, T, H·K)
        y = heads_joined(tap("attention.mixed", heads_apart(self.rounded_heads(y), self.heads)))
        return tap("attention.out", self.out(y))


class BitFeedForward(GatedFeedForward):
    """Gated feed-forward layer with a norm before the last matrix, and rounded inputs.

    w        as of ``GatedFeedForward``, and ``norm`` with its gain (F,)
    rounded  applied to the input of each matrix
    """

    def __init__(self, w: Weights, activation: Activation, *, eps: float, rounded: Norm):
        super().__init__(w, activation)
        self.norm = RMSNorm(w / "norm", eps=eps)
        self.rounded, self.rounded_features = rounded, of_all_ranks(w, rounded)

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate, up = linear_each((self.gate, self.up), self.rounded(x))  # (B, T, F) each
        gate, up = tap("feed_forward.gate", gate), tap("feed_forward.up", up)
        hidden = tap("feed_forward.before_norm", fast.gated_activation(gate, up, self.activation))
        hidden = tap("feed_forward.activation", self.rounded_features(self.norm(hidden)))
        return tap("feed_forward.down", self.down(hidden))


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: BitNetConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        eps, rounded = c.rms_norm_eps, rounded_vectors if c.rounds else unchanged
        self.attention_norm = RMSNorm(w / "attention_norm", eps=eps)
        self.attention = BitAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), eps=eps, rounded=rounded
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=eps)
        activation = ACTIVATIONS[c.hidden_act]
        self.feed_forward = BitFeedForward(w / "feed_forward", activation, eps=eps, rounded=rounded)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class BitNet(Decoder[BitNetConfig]):
    """BitNet b1.58 2B4T, its weights packed, or as they were trained."""

    Config = BitNetConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: BitNetConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Weights of −1, 0 and 1, activations of 8 bits, a norm before every matrix",
    why="an eighth of the memory, and no multiplications",
    published="2B4T",
)
