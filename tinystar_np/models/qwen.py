"""Qwen (Alibaba 2023, arXiv:2309.16609), the first, 1.8B to 72B: Llama with biases on q, k and v.

    x → norm → attention, q and k rotated, q scaled ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention             | position              | norm    | activation | block      | context |
|-----------------------|-----------------------|---------|------------|------------|---------|
| MHA, one matrix for   | RoPE, dynamic NTK;    | RMSNorm | SwiGLU     | sequential | 32768   |
| q, k, v, with a bias  | queries grow by log n |         |            |            |         |

New in it, beside Llama: a bias on queries, keys and values alone, which stayed until Qwen2.5, and two rules
for texts beyond the length of training, n. Dynamic NTK slows the rotations down, by steps: a text of up to
2n tokens has the base θ · 3^(K/(K−2)), one of up to 4n has 7 in the place of 3, and so on by doublings. And
the query at position p is multiplied by log_n (p + 1) beyond n (kernels/temperature.py; Chiang & Cholak
2022, arXiv:2202.12172).

It is not in transformers: the makers' modeling_qwen.py defines it. There the base goes by the prompt's length
and stays while the model writes; here, as everywhere, logits are those of the whole text read at once, so
that a text which grows across n, 2n, 4n … is read again at that length. ``intermediate_size`` counts gate
and up together.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import silu
from tinystar_np.kernels.rope import default_frequencies
from tinystar_np.kernels.temperature import log_length
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import FrequenciesByLength, Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_keys import LEAST, MOST
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class QwenConfig(Config):
    """The keys of a Qwen config.json that change the mathematics; defaults as in the makers' class.

    That has none for ``seq_length``, the length of training; here it is Qwen-7B's. The first files have the
    other names of keys.
    """

    REFUSED: ClassVar = {"use_cache_quantization": (False, None)}

    vocab_size: int = key(151936, letter="V", aliases=("padded_vocab_size",))
    hidden_size: int = key(4096, letter="D", aliases=("n_embd",))
    intermediate_size: int = key(22016, letter="F", aliases=("ffn_hidden_size",))
    num_hidden_layers: int = key(32, letter="L", aliases=("n_layer",))
    num_attention_heads: int = key(32, letter="H", aliases=("n_head",))
    kv_channels: int = key(128, letter="K")
    max_position_embeddings: int = key(8192, is_trained_length=True, aliases=("n_positions",))
    seq_length: int = key(8192, least=2)
    layer_norm_epsilon: float = key(1e-6, above=0)
    rotary_pct: float = key(1.0, above=0)
    rotary_emb_base: float = key(10000.0, above=0)
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    no_bias: bool = True
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters; a feed-forward layer's F is half of what the key counts."""
        return {**super().sizes, "F": self.intermediate_size // 2}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in texts of the trained length."""
        base, part, K = self.rotary_emb_base, self.rotary_pct, self.kv_channels
        require(LEAST <= base <= MOST, f"rotary_emb_base = {base} is not between {LEAST:g} and {MOST:g}.")
        require(LEAST <= part <= 1, f"rotary_pct = {part} is not between {LEAST:g} and 1.")
        return RopeParameters.read(
            {"rope_theta": base, "partial_rotary_factor": part}, head_dim=K, partial=True
        )

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        D, H, K = self.hidden_size, self.num_attention_heads, self.kv_channels
        require(H * K == D, f"{H} heads of kv_channels = {K} do not make hidden_size = {D}.")
        width = self.rope.rotary_dim
        require(
            width > 2 or not self.use_dynamic_ntk,
            f"kv_channels = {K} and rotary_pct rotate {width} numbers of each head; use_dynamic_ntk needs "
            "more than 2.",
        )


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.attn.c_attn.weight[:HK]", "(3HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("h.{i}.attn.c_attn.bias[:HK]", "3HK"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.attn.c_attn.weight[HK:2HK]", "(3HK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("h.{i}.attn.c_attn.bias[HK:2HK]", "3HK"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.attn.c_attn.weight[2HK:]", "(3HK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("h.{i}.attn.c_attn.bias[2HK:]", "3HK"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.attn.c_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.attn.c_proj.bias", "D", "not no_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("h.{i}.mlp.w2.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":   ("h.{i}.mlp.w2.bias", "F", "not no_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.w1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.w1.bias", "F", "not no_bias"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.c_proj.bias", "D", "not no_bias"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: QwenConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        rope = dynamic_rotary(c.rope, c.seq_length) if c.use_dynamic_ntk else c.rope.rotary()
        self.attention = QwenAttention(w / "attention", heads=H, head_dim=K, rope=rope)
        self.attention.trained = c.seq_length if c.use_logn_attn else None
        self.attention.remark = c.use_logn_attn * f"queries × log position to base {c.seq_length} beyond it"
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = GatedFeedForward(w / "feed_forward", silu)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class QwenAttention(Attention):
    """Attention whose rotated queries grow with the logarithm of their positions.

    trained  beyond this length; None for queries as they are
    """

    trained: int | None = None

    def rotated(self, q: NDArray, k: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Rotate queries and keys by their positions, and scale queries."""
        q, k = super().rotated(q, k, step)
        if self.trained is None:
            return q, k
        queries, trained = step.queries, self.trained
        factors = queries.once(QwenAttention, lambda: log_length(queries.positions, trained))  # (B, T)
        return tap("attention.q_scaled", q * factors[:, None, :, None]), k


class FrequenciesByDoubling(FrequenciesByLength):
    """Frequencies that change each time a text's length has doubled.

    shortest  the length of training
    """

    def rotation_length(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths that count in place of these: n, 2n, 4n …"""
        doublings = np.ceil(np.log2(np.maximum(lengths, self.shortest) / self.shortest)).astype(np.int64)
        return self.shortest * 2**doublings


@cache
def dynamic_rotary(rope: RopeParameters, trained: int) -> Rotary:
    """Return the layer whose rotations slow down in long texts, the same object for equal parameters.

    trained  n: texts of up to n·2^d tokens have the base θ · (2^(d+1) − 1)^(J/(J−2)), where J numbers of each
             head rotate
    """
    width = rope.rotary_dim

    def rule(length: int) -> NDArray[np.float32]:
        alpha = 2 * length // trained - 1  # 1, 3, 7 … for the lengths n, 2n, 4n …
        return default_frequencies(width, rope.rope_theta * alpha ** (width / (width - 2)))

    return Rotary(FrequenciesByDoubling(rule, shortest=trained), rule=rope)


class Qwen(Decoder[QwenConfig]):
    """Qwen-1.8B, 7B, 14B and 72B, and their chat models."""

    Config = QwenConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    IGNORED = r"(h\.\d+\.attn\.)?(bias|masked_bias|logn_tensor|rotary_emb\.inv_freq)"  # buffers

    def build(self, w: Weights, c: QwenConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="Biases on q, k and v; slower rotations and larger queries beyond the trained length",
    why="longer texts than in training, without training",
    published="7B",
)
