"""Apertus (Swiss AI 2025, arXiv:2509.14233): a learned activation, xIELU, without a gate.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    feed-forward(x) = xIELU(x W_up) W_down
    logits = norm(x) · W

| attention            | position     | norm    | activation       | block      | context |
|----------------------|--------------|---------|------------------|------------|---------|
| GQA, norms of q, k   | RoPE, llama3 | RMSNorm | xIELU, not gated | sequential | 65536   |

New in it: xIELU (Huang and Schlag 2024, arXiv:2411.13010; kernels/xielu.py). It grows as squared ReLU does
for positive inputs and is not zero for negative ones, so that every feature has a gradient; each layer learns
how steep either side is. As in AFM (arcee.py), two wider matrices take the place of the three of a gated
layer. Queries and keys are normed head by head, as in Qwen3 (qwen3.py). Weights, data and every step of the
training are open, and text from sites that opted out was left out.
"""

from dataclasses import dataclass
from functools import partial

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.xielu import xielu
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

LLAMA3: JsonObject = {
    "rope_type": "llama3",
    "rope_theta": 12000000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
"""The rotary embedding that transformers takes where config.json has none."""


class XIELU(Module):
    """xIELU with the learned parameters of one layer (kernels/xielu.py).

    w  ``a_p`` and ``a_n`` (1,), ``beta`` and ``epsilon`` (), as the file has them
    """

    def __init__(self, w: Weights):
        self.a_p: NDArray = w["a_p"]
        self.a_n: NDArray = w["a_n"]
        self.beta: NDArray = w["beta"]
        self.epsilon: NDArray = w["epsilon"]

    def __call__(self, x: NDArray) -> NDArray:
        """Apply it to each number: (...) → (...), a new array."""
        return xielu(x, self.a_p, self.a_n, self.beta, self.epsilon)


@dataclass(frozen=True)
class ApertusConfig(Config):
    """The keys of an Apertus config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(131072, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = key("xielu", known={**ACTIVATIONS, "xielu": XIELU})
    max_position_embeddings: int = key(65536, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(12000000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters; where the file has none, those of the published models."""
        said = {} if self.rope_parameters is not None else {"rope_parameters": LLAMA3}
        return RopeParameters.read(vars(self) | said, head_dim=self.sizes["K"])

    @property
    def has_xielu(self) -> bool:
        """Whether the activation has parameters of its own."""
        return self.hidden_act == "xielu"


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.attention_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_norm.weight", "K"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.feedforward_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.activation.a_p":     ("layers.{i}.mlp.act_fn.alpha_p", "1", "has_xielu"),
    "blocks.{i}.feed_forward.activation.a_n":     ("layers.{i}.mlp.act_fn.alpha_n", "1", "has_xielu"),
    "blocks.{i}.feed_forward.activation.beta":    ("layers.{i}.mlp.act_fn.beta", "", "has_xielu"),
    "blocks.{i}.feed_forward.activation.epsilon": ("layers.{i}.mlp.act_fn.eps", "", "has_xielu"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: ApertusConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
        )  # fmt: skip
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        activation = XIELU(w / "feed_forward.activation") if c.has_xielu else ACTIVATIONS[c.hidden_act]
        self.feed_forward = FeedForward(w / "feed_forward", activation)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Apertus(Decoder[ApertusConfig]):
    """Apertus in 8B and 70B."""

    Config = ApertusConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: ApertusConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="arcee",
    kind="block",
    changed="xIELU, whose two sides are learned; norms of q and k",
    why="features with negative inputs still learn; scores stay bounded",
    published="8B",
    keys={"hidden_size": 4096, "intermediate_size": 21504, "num_key_value_heads": 8},
)
