"""GPT-J 6B (Wang & Komatsuzaki 2021): attention and feed-forward side by side.

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = norm(x) · W + b

| attention | position                       | norm      | activation  | block    | context |
|-----------|--------------------------------|-----------|-------------|----------|---------|
| MHA       | RoPE, first 64 of a head's 256 | LayerNorm | GELU (tanh) | parallel | 2048    |

New in it: one norm feeds both branches, so that their products can run together; rotary embedding (Su et al.
2021, arXiv:2104.09864) in a GPT, on a part of each head, the rest of which has no positions. Pairs are
neighbours. The output layer has a bias, attention has none.
"""

from dataclasses import dataclass
from math import nextafter

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GPTJConfig(Config):
    """The keys of a GPT-J config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(50400, letter="V")
    hidden_size: int = key(4096, letter="D", aliases=("n_embd",))
    n_inner: int | None = key(None, letter="F")
    num_hidden_layers: int = key(28, letter="L", aliases=("n_layer",))
    num_attention_heads: int = key(16, letter="H", aliases=("n_head",))
    activation_function: str = activation_key("gelu_new")
    max_position_embeddings: int = key(2048, letter="C", aliases=("n_positions",), is_trained_length=True)
    layer_norm_epsilon: float = key(1e-5, above=0)
    rotary_dim: int = 64
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        K = self.sizes["K"]
        # Rounded up: K times the fraction must not fall below rotary_dim.
        return RopeParameters("default", 10000.0, K, nextafter(self.rotary_dim / K, 1))

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        n, K = self.rotary_dim, self.sizes["K"]
        require(
            2 <= n <= K and n % 2 == 0,
            f"rotary_dim = {n}, but it must be even, from 2 to the width of a head, {K}.",
        )


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.attn.k_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.attn.v_proj.weight", "(HK D)ᵀ"),
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


class Block(Module):
    """Attention and feed-forward side by side: both read the same normed copy of the stream."""

    def __init__(self, w: Weights, c: GPTJConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        rope = c.rope.rotary(interleaved=True)  # neighbours make a pair
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_epsilon)
        self.attention = Attention(w / "attention", heads=H, head_dim=K, rope=rope)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        attended = self.attention(normed, step, state)
        return tap("residual", step.wanted(x) + (attended + self.feed_forward(step.wanted(normed))))


class GPTJ(Decoder[GPTJConfig]):
    """GPT-J 6B, and the models that were tuned from it."""

    Config = GPTJConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.(bias|masked_bias)"  # the causal mask was saved as a buffer by old versions

    def build(self, w: Weights, c: GPTJConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gpt2",
    kind="block",
    changed="Attention and feed-forward in parallel, after one norm; rotary positions",
    why="both branches compute at once; scores depend on distances only",
    published="6B",
)
