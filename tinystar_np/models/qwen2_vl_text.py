"""Qwen2-VL and Qwen2.5-VL, text (Qwen Team 2024, arXiv:2409.12191, 2502.13923): Qwen2 that reads images.

    x → norm → attention, q k v with biases ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention            | position                     | norm    | activation | block      | context |
|----------------------|------------------------------|---------|------------|------------|---------|
| GQA; windows in some | RoPE by time, row and column | RMSNorm | SwiGLU     | sequential | 32768   |

New in it: rotations that know where on an image a vector lies (M-RoPE, kernels/rope_axes.py). The pairs of a
head are divided into three sections, which go by time, row and column. Among words all three are the place in
the text, so that a text without images is read as by Qwen2 (qwen2.py). The vectors of an image are of one
time and differ in row and column; the text goes on after the larger side of the image, so that an image of
24 × 32 vectors takes 32 positions, and rotations stay within the range that was trained.
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
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.models.rope_sections import Order, mrope, mrope_sections, sectioned_rotary
from tinystar_np.tap import tap

ORDER: Order = "one after the other"
"""How the sections of a head's pairs lie."""


@dataclass(frozen=True)
class Qwen2VLTextConfig(Config):
    """The keys of the text part's config that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(152064, letter="V")
    hidden_size: int = key(8192, letter="D")
    intermediate_size: int = key(29568, letter="F")
    num_hidden_layers: int = key(80, letter="L")
    num_attention_heads: int = key(64, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = None
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(1000000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    use_sliding_window: bool | None = False
    sliding_window: int | None = 4096
    max_window_layers: int = key(80, null_is_silence=True)
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return mrope(vars(self), self.sizes["K"], ORDER)

    @property
    def sections(self) -> tuple[int, ...]:
        """How many pairs of a head go by time, row and column."""
        return mrope_sections(vars(self), self.sizes["K"], ORDER, (16, 24, 24))

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; without ``layer_types``, those from ``max_window_layers`` on have one."""
        window = self.sliding_window if self.use_sliding_window else None
        last_full = self.num_hidden_layers if window is None else self.max_window_layers
        usual = [SLIDING if i >= last_full else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, window)

    def check(self) -> None:
        """Refuse sections that are not all pairs of a head, and a width of heads other than theirs."""
        super().check()
        require(
            self.head_dim in (None, self.sizes["K"]),
            f"head_dim = {self.head_dim}, but hidden_size = {self.hidden_size} divided among "
            f"num_attention_heads = {self.num_attention_heads} is {self.sizes['K']}.",
        )
        _ = self.sections


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Qwen2VLTextConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        rope = sectioned_rotary(c.rope, c.sections, ORDER)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=rope, window=c.windows[i]
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


class Qwen2VLText(Decoder[Qwen2VLTextConfig]):
    """The text part of Qwen2-VL and Qwen2.5-VL, 2B to 72B."""

    Config = Qwen2VLTextConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Qwen2VLTextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen2",
    kind="position",
    changed="Rotations by time, row and column",
    why="an image's vectors are told apart by where they lie, and take few positions",
    published="7B",
    keys={"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4},
)
