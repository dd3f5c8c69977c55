"""OLMo 2 (OLMo Team 2024, arXiv:2501.00656): a branch's output is normed, not its input.

    x → attention → norm ──+ x → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · W

| attention                       | position | norm    | activation | block                  | context |
|---------------------------------|----------|---------|------------|------------------------|---------|
| MHA, GQA in 32B; norms of q, k  | RoPE     | RMSNorm | SwiGLU     | norms on the branches  | 4096    |

New in it, beside OLMo (olmo.py): a training without loss spikes. A branch reads the stream as it is, and the
norm of its output bounds what it adds; the stream itself is not normed (the order of Swin 2, Liu et al. 2021,
arXiv:2111.09883). Queries and keys are normed too, each over all heads of a token at once, so that scores
stay bounded and no clipping is needed. The norms have gains again: RMSNorm, as in Llama.
"""

from dataclasses import dataclass
from functools import partial

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import JointNormAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Olmo2Config(Config):
    """The keys of an OLMo 2 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(50304, letter="V")
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
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":            ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":            ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":            ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain":       ("layers.{i}.self_attn.q_norm.weight", "HK"),
    "blocks.{i}.attention.k_norm.gain":       ("layers.{i}.self_attn.k_norm.weight", "GK"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":          ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":    ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":      ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":    ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
    "final_norm.gain":                        ("norm.weight", "D"),
    "head.weight":                            ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads the residual stream itself, norms its result, and adds it."""

    def __init__(self, w: Weights, c: Olmo2Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention = JointNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
        )  # fmt: skip
        self.attention_post_norm = norm(w / "attention_post_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(x, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(x)))
        return tap("residual", x + y)


class Olmo2(Decoder[Olmo2Config]):
    """OLMo 2 in 1B, 7B, 13B and 32B."""

    Config = Olmo2Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Olmo2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="olmo",
    kind="block",
    changed="Norms after the branches; queries and keys normed over all heads",
    why="training without loss spikes",
    published="7B",
)
