"""EXAONE 4 (LG AI Research 2025, arXiv:2507.11407): post-norms, and RoPE only in layers with a window.

    x → attention → norm ──+ x → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · W

| attention                   | position                | norm    | activation | block    | context     |
|-----------------------------|-------------------------|---------|------------|----------|-------------|
| GQA; norms of q, k; window  | RoPE; none in layers    | RMSNorm | SwiGLU     | norms on | 131072      |
| 4096 in 3 of 4 layers (32B) | that see all (32B)      |         |            | branches |             |

New in it: the combination of two known ideas. Three layers of four have a window and rotate; the fourth sees
all and has no positions, as in Command R7B (cohere2.py): far tokens are found by content, and no rotation
needs to be rescaled for longer texts. The norms are OLMo 2's (olmo2.py), after the branches instead of before
them, which bounds what each branch adds to the stream; but queries and keys are normed head by head, as in
Qwen3 (qwen3.py). The 1.2B has no windows and rotates in all layers.
"""

from dataclasses import dataclass
from functools import partial

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
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Exaone4Config(Config):
    """The keys of an EXAONE 4 config.json that change the mathematics; defaults as in transformers.

    A pattern of letters, "LLLG", counts only where files name no layers; published ones name them.
    """

    vocab_size: int = key(102400, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(16384, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int = key(32, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    sliding_window: int | None = 4096
    sliding_window_pattern: str | int | None = 4
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the layers that rotate."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every n-th has none where the file does not name them."""
        L, n = self.num_hidden_layers, self.sliding_window_pattern
        usual = [FULL] * L
        if self.layer_types is None and self.sliding_window is not None:
            require(not isinstance(n, str), f"sliding_window_pattern = {n!r}, but there are no layer_types.")
            n = at_least_1("sliding_window_pattern", n if isinstance(n, int) else None)
            usual = [SLIDING if (i + 1) % n else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def rotated(self) -> tuple[bool, ...]:
        """Whether each layer rotates queries and keys: those with windows do, or all where none is in use."""
        return tuple(self.sliding_window is None or window is not None for window in self.windows)


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.q_norm.gain":       ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain":       ("layers.{i}.self_attn.k_norm.weight", "K"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
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

    def __init__(self, w: Weights, c: Exaone4Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=c.windows[i],
            rope=c.rope.rotary() if c.rotated[i] else None,
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


class Exaone4(Decoder[Exaone4Config]):
    """EXAONE 4.0 in 1.2B and 32B."""

    Config = Exaone4Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Exaone4Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="olmo2",
    kind="attention",
    changed="Rotations in layers with a window, no positions in the others",
    why="far tokens are found by content; a quarter of the cache",
    published="32B",
    keys={"num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 4},
)
