"""GPT-Neo (Black, Gao, Wang, Leahy & Biderman 2021): GPT-3's shape, in the open.

    x = embedding[token] + positions[position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention                              | position | norm      | activation  | block      | context |
|----------------------------------------|----------|-----------|-------------|------------|---------|
| MHA; in every second layer, window 256 | learned  | LayerNorm | GELU (tanh) | sequential | 2048    |

New in it: as in GPT-3, layers with full attention alternate with layers with a window (Brown et al. 2020,
arXiv:2005.14165); trained on open texts, the Pile (Gao et al. 2020, arXiv:2101.00027). Scores are not divided
by √K: the weights of the queries learn that factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

KINDS = ("global", "local")


@dataclass(frozen=True)
class GPTNeoConfig(Config):
    """The keys of a GPT-Neo config.json that change the mathematics; defaults as in transformers.

    ``attention_types`` says which layers have full attention: [[["global", "local"], 12]] is these two, 12
    times. ``attention_layers`` is the same, written out; it wins.
    """

    vocab_size: int = key(50257, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int | None = key(None, letter="F")
    num_hidden_layers: int = key(24, letter="L", aliases=("num_layers",))
    num_attention_heads: int = key(16, letter="H", aliases=("num_heads",))
    activation_function: str = activation_key("gelu_new")
    max_position_embeddings: int = key(2048, letter="C", is_trained_length=True)
    layer_norm_epsilon: float = key(1e-5, above=0)
    attention_types: list[Any] | None = None
    attention_layers: list[Any] | None = None
    window_size: int = 256
    tie_word_embeddings: bool = True

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.max_position_embeddings

    @property
    def kinds(self) -> list[str]:
        """The kind of each layer: "global" for full attention, or "local" for a window."""
        if self.attention_layers is not None:
            return self.attention_layers
        types: list[Any] = [[list(KINDS), 12]] if self.attention_types is None else self.attention_types
        return [kind for kinds, times in types for kind in kinds * times]

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer."""
        return [
            at_least_1("window_size", self.window_size) if kind == "local" else None for kind in self.kinds
        ]

    def check(self) -> None:
        """Refuse contradictions."""
        n, L = 0, self.num_hidden_layers
        for item in self.attention_types or []:
            match item:
                case [list(kinds), int(times)] if times >= 0 and n + times * len(kinds) <= L:
                    n += times * len(kinds)
                case _:
                    require(False, f"attention_types has {shown(item)}, but wants [[kind, …], how often].")
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        require(not unknown, f"attention_types has {shown(unknown[:1])}, but a layer is global or local.")
        n = len(self.kinds)
        require(n == L, f"attention_types is for {n} layers, but num_hidden_layers = {L}.")
        super().check()


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "embedding.positions.weight":          ("wpe.weight", "C D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.attn.attention.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.attn.attention.k_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.attn.attention.v_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.attn.attention.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.attn.attention.out_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.ln_2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.c_fc.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.c_proj.bias", "D"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GPTNeoConfig, i: int):
        H, K = (c.sizes[letter] for letter in "HK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = Attention(w / "attention", heads=H, head_dim=K, scale=1.0, window=c.windows[i])
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class GPTNeo(Decoder[GPTNeoConfig]):
    """GPT-Neo 125M, 1.3B and 2.7B, and TinyStories."""

    Config = GPTNeoConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.attention\.(bias|masked_bias)"  # the mask was saved as a buffer by old versions

    def build(self, w: Weights, c: GPTNeoConfig) -> None:
        """Build embeddings, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens and their positions, and add the vectors: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        positions = tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from="gpt2",
    kind="attention",
    changed="A window of 256 tokens in every second layer; scores are not divided by √K",
    why="half of the layers cost the same however long the text is",
    published="1.3B",
    keys={"num_hidden_layers": 2, "attention_types": [[["global", "local"], 1]]},
)
