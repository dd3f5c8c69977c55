"""Hunyuan (Tencent 2025, https://github.com/Tencent-Hunyuan), 0.5B to 7B: q and k normed after rotation.

    x → norm → attention, q and k rotated, then normed ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention          | position                 | norm    | activation | block      | context |
|--------------------|--------------------------|---------|------------|------------|---------|
| GQA; norms of q, k | RoPE, base × α^(K/(K−2)) | RMSNorm | SwiGLU     | sequential | 262144  |
| after the rotation |                          |         |            |            |         |

New in it, beside Qwen3 (qwen3.py): queries and keys are normed after they are rotated, not before. A rotation
keeps lengths, so the divisor is the same; but each gain then multiplies a number that the rotation has mixed
with its partner, and scores no longer depend on relative positions alone. For long texts the base of the
rotations is multiplied by α^(K/(K−2)), with α = 1000 in the published models: the fastest pair stays as it
was, and the slowest rotates α times as slowly (the NTK-aware rule; its history is in Peng et al. 2023,
arXiv:2309.00071). Tencent's larger models are Hunyuan-Large, arXiv:2411.02265, and A13B (hunyuan_v1_moe.py).
"""

from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import LateNormAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters, with_stretched_base
from tinystar_np.tap import tap


@dataclass(frozen=True)
class HunyuanV1DenseConfig(Config):
    """The keys of a dense Hunyuan config.json that change the mathematics; defaults as in transformers.

    Files call the rule "dynamic" and give α beside it: then nothing depends on the length of the text.
    """

    vocab_size: int = key(290943, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(with_stretched_base(vars(self), self.sizes["K"]), head_dim=self.sizes["K"])


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
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.query_layernorm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.key_layernorm.weight", "K"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: HunyuanV1DenseConfig):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        self.attention = LateNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), norms=(q_norm, k_norm)
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


class HunyuanV1Dense(Decoder[HunyuanV1DenseConfig]):
    """Hunyuan 0.5B, 1.8B, 4B and 7B."""

    Config = HunyuanV1DenseConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: HunyuanV1DenseConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3",
    kind="attention",
    changed="Queries and keys are normed after their rotation; a base enlarged by α",
    why="the slowest pair rotates 1000 times as slowly, the fastest as before",
    published="7B",
    keys={"num_key_value_heads": 8, "head_dim": 128},
)
