"""GLM-4 9B and GLM-Edge (Zhipu AI and Tsinghua 2024, arXiv:2406.12793): RoPE on half of each head.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention | position                  | norm    | activation | block      | context |
|-----------|---------------------------|---------|------------|------------|---------|
| GQA 32:2  | RoPE, first half of heads | RMSNorm | SwiGLU     | sequential | 131072  |

New in it, beside Llama (llama.py): sixteen query heads share a key/value head, which keeps the cache of a
long text small. Half of each head is rotated, in neighbouring pairs as in GPT-J (gptj.py); the other half
does not depend on positions. Queries, keys and values alone have biases, with which the makers saw slightly
better extrapolation beyond the trained length. Gate and up are one matrix in the file. The first GLMs filled
blanks in a text; these read from left to right, as all others here.
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
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GlmConfig(Config):
    """The keys of a GLM config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(151552, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(13696, letter="F")
    num_hidden_layers: int = key(40, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int = key(2, letter="G")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1.5625e-7, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.5  # null rotates whole heads
    attention_bias: bool = True
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for a part of each head."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)


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
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_up_proj.weight[:F]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.gate_up_proj.weight[F:]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip

FIRST_FILES: WeightTable = {  # ChatGLM 2 and 3, and GLM-4 with code of its own
    "embedding.tokens.weight":             ("transformer.embedding.word_embeddings.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("transformer.encoder.layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":
        ("transformer.encoder.layers.{i}.self_attention.query_key_value.weight[:HK]", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.q.bias":
        ("transformer.encoder.layers.{i}.self_attention.query_key_value.bias[:HK]", "HK+2GK",
         "attention_bias"),
    "blocks.{i}.attention.k.weight":
        ("transformer.encoder.layers.{i}.self_attention.query_key_value.weight[HK:HK+GK]", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":
        ("transformer.encoder.layers.{i}.self_attention.query_key_value.bias[HK:HK+GK]", "HK+2GK",
         "attention_bias"),
    "blocks.{i}.attention.v.weight":
        ("transformer.encoder.layers.{i}.self_attention.query_key_value.weight[HK+GK:]", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":
        ("transformer.encoder.layers.{i}.self_attention.query_key_value.bias[HK+GK:]", "HK+2GK",
         "attention_bias"),
    "blocks.{i}.attention.out.weight":
        ("transformer.encoder.layers.{i}.self_attention.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":
        ("transformer.encoder.layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":
        ("transformer.encoder.layers.{i}.mlp.dense_h_to_4h.weight[:F]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":
        ("transformer.encoder.layers.{i}.mlp.dense_h_to_4h.weight[F:]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":
        ("transformer.encoder.layers.{i}.mlp.dense_4h_to_h.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("transformer.encoder.final_layernorm.weight", "D"),
    "head.weight":
        ("transformer.output_layer.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GlmConfig):
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


class Glm(Decoder[GlmConfig]):
    """GLM-4 9B and GLM-Edge, as converted for transformers or with code of their own; ChatGLM 2 and 3."""

    Config = GlmConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FIRST_FILES,)
    PREFIX = "model."
    IGNORED = r"transformer\.rotary_pos_emb\.inv_freq"

    def build(self, w: Weights, c: GlmConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="Half of each head is rotated, in neighbouring pairs; biases of queries, keys and values",
    why="one half compares positions, the other content alone",
    published="4 9B",
)
