"""CodeGen (Nijkamp et al. 2022, arXiv:2203.13474): GPT-J for programs, written in several turns.

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = norm(x) · W + b

| attention | position                       | norm      | activation  | block    | context |
|-----------|--------------------------------|-----------|-------------|----------|---------|
| MHA       | RoPE, first 64 of a head's 256 | LayerNorm | GELU (tanh) | parallel | 2048    |

New in it, beside GPT-J (gptj.py): its text. It was trained on text, then on programs in many languages, then
on Python, with weights published after each; a program is specified in several turns of a dialogue. Queries,
keys and values come from one matrix, whose rows keep the layout of training on four TPU cores: for each
quarter of the heads first the queries, then the values, then the keys.
"""

import math
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

CORES = 4
"""How many TPU cores it was trained on, each with a part of the heads."""


@dataclass(frozen=True)
class CodeGenConfig(Config):
    """The keys of a CodeGen config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(50400, letter="V")
    n_embd: int = key(4096, letter="D", aliases=("hidden_size",))
    n_inner: int | None = key(None, letter="F")
    n_layer: int = key(28, letter="L", aliases=("num_hidden_layers",))
    n_head: int = key(16, letter="H", aliases=("num_attention_heads",))
    activation_function: str = activation_key("gelu_new")
    n_positions: int = key(2048, letter="C", aliases=("max_position_embeddings",), is_trained_length=True)
    layer_norm_epsilon: float = key(1e-5, above=0)
    rotary_dim: int = 64
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with a quarter of the width P, and M units of whole heads and of N whole quarters."""
        units = max(math.gcd(self.n_head, CORES), 1)
        return super().sizes | {"M": units, "N": CORES // units, "P": self.n_embd // CORES}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        K = self.sizes["K"]
        # Rounded up: K times the fraction must not fall below rotary_dim.
        return RopeParameters("default", 10000.0, K, math.nextafter(self.rotary_dim / K, 1))

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        n, D, K = self.rotary_dim, self.n_embd, self.sizes["K"]
        require(
            2 <= n <= K and n % 2 == 0,
            f"rotary_dim = {n}, but it must be even, from 2 to the width of a head, {K}.",
        )
        require(D % CORES == 0, f"n_embd = {D} cannot be divided among {CORES} cores.")


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("h.{i}.attn.qkv_proj.weight", "(MN3P D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.attn.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.fc_in.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.fc_in.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.fc_out.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.fc_out.bias", "D"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
    "head.bias":                           ("lm_head.bias", "V"),
}  # fmt: skip


class QuarteredAttention(Attention):
    """Attention whose queries, values and keys, in this order, come out of one matrix in four quarters.

    w         as in ``Attention``, with ``qkv`` (D, 3·H·K) instead of ``q``, ``k`` and ``v``
    heads     H
    head_dim  K
    rope      as in ``Attention``
    """

    def __init__(self, w: Weights, *, heads: int, head_dim: int, rope: Rotary):
        super().__init__(w, heads=heads, head_dim=head_dim, rope=rope)
        units = math.gcd(heads, CORES)
        own = w.whole_groups(heads, units)
        self.heads = self.kv_heads = len(own.heads)
        self.quarters = len(own.groups) * CORES // units

    def build_projections(self, w: Weights) -> None:
        """Build the linear layer of queries, keys and values."""
        self.qkv = Linear(w / "qkv")

    def value_dim(self) -> int:
        """Return the width of a value, here that of a key."""
        return self.head_dim

    def projected(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray, NDArray]:
        """Make queries (B, H, T, K) of the wanted tokens, keys and values (B, H, T, K) of all."""
        B, T, _ = x.shape
        quarters = tap("attention.qkv", self.qkv(x)).reshape(
            B, T, self.quarters, 3, -1
        )  # (B, T, 4, 3, H·K/4)
        q, v, k = (quarters[..., n, :].reshape(B, T, -1) for n in range(3))
        return self.by_heads(step.wanted(q), k, v)


class Block(Module):
    """Attention and feed-forward side by side: both read the same normed copy of the stream."""

    def __init__(self, w: Weights, c: CodeGenConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        rope = c.rope.rotary(interleaved=True)  # neighbours make a pair
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = QuarteredAttention(w / "attention", heads=H, head_dim=K, rope=rope)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        attended = self.attention(normed, step, state)
        return tap("residual", step.wanted(x) + (attended + self.feed_forward(step.wanted(normed))))


class CodeGen(Decoder[CodeGenConfig]):
    """CodeGen in its sizes from 350M to 16B, each as nl, multi and mono."""

    Config = CodeGenConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HM",))
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.causal_mask"  # the causal mask was saved as a buffer by old versions

    def build(self, w: Weights, c: CodeGenConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.n_layer)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gptj",
    kind="block",
    changed="Queries, keys and values from one matrix, in four quarters",
    why="each of four cores computes its own heads",
    published="16B",
    keys={"n_embd": 6144, "n_head": 24},
)
