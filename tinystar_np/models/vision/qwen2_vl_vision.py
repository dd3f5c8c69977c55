"""The vision encoder of Qwen2-VL (Qwen Team 2024, arXiv:2409.12191).

    x₀ = patches · W
    x → norm → attention, q and k rotated by row and column ──+ x → norm → feed-forward ──+ x      (× L)
    vectors = W₂ · gelu(W₁ · [2 × 2 neighbours of norm(x)])

Images keep their own size and shape: no position is learned, patches are told apart by rotations that go by
their rows and columns (kernels/rope_axes.py). The merger makes one vector of 2 × 2 neighbours. A patch is
2 frames of a film; an image counts as a film that stands still (kernels/patches.py).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, gelu
from tinystar_np.kernels.pixel_shuffle import pixel_shuffle
from tinystar_np.kernels.rope_axes import frequencies_twice, halves
from tinystar_np.layers.attention import EncoderAttention
from tinystar_np.layers.basic import FeedForward, LayerNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import FilmPatchEmbedding
from tinystar_np.layers.rope_axes import GridRotary, GridStep
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.axial import axial_theta
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import scope, tap

EPS = 1e-6


@dataclass(frozen=True)
class Qwen2VLVisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers."""

    REFUSED: ClassVar = {"head_dim": (None,)}

    depth: int = key(32, letter="L", aliases=("num_hidden_layers",))
    embed_dim: int = key(1280, letter="D")
    hidden_size: int = key(3584, letter="O")
    hidden_act: str = activation_key("quick_gelu")
    mlp_ratio: int = key(4, least=1)
    num_heads: int = key(16, letter="H", aliases=("num_attention_heads",))
    in_channels: int = key(3, letter="C", aliases=("in_chans",))
    patch_size: int = key(14, letter="P")
    spatial_merge_size: int = key(2, least=1)
    temporal_patch_size: int = key(2, letter="T")
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: O the decoder's width, M of what the merger puts together, T frames."""
        D = self.embed_dim
        return {**super().sizes, "F": D * self.mlp_ratio, "M": D * self.spatial_merge_size**2}

    @property
    def theta(self) -> float:
        """The base of the rotations."""
        return axial_theta(vars(self))

    def check(self) -> None:
        """Refuse heads that cannot be rotated by rows and columns."""
        super().check()
        K = self.sizes["K"]
        require(
            K % 4 == 0,
            f"embed_dim = {self.embed_dim} and num_heads = {self.num_heads} make heads of width {K}, but "
            "rotations by rows and columns need a multiple of 4.",
        )
        axial_theta(vars(self))  # raises its errors


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape
    "patches.weight":                     ("patch_embed.proj.weight", "D C T P P"),
    "blocks.{i}.attention_norm.gain":     ("blocks.{i}.norm1.weight", "D"),
    "blocks.{i}.attention_norm.bias":     ("blocks.{i}.norm1.bias", "D"),
    "blocks.{i}.attention.q.weight":      ("blocks.{i}.attn.qkv.weight[:D]", "(3D D)ᵀ"),
    "blocks.{i}.attention.q.bias":        ("blocks.{i}.attn.qkv.bias[:D]", "3D"),
    "blocks.{i}.attention.k.weight":      ("blocks.{i}.attn.qkv.weight[D:2D]", "(3D D)ᵀ"),
    "blocks.{i}.attention.k.bias":        ("blocks.{i}.attn.qkv.bias[D:2D]", "3D"),
    "blocks.{i}.attention.v.weight":      ("blocks.{i}.attn.qkv.weight[2D:]", "(3D D)ᵀ"),
    "blocks.{i}.attention.v.bias":        ("blocks.{i}.attn.qkv.bias[2D:]", "3D"),
    "blocks.{i}.attention.out.weight":    ("blocks.{i}.attn.proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.out.bias":      ("blocks.{i}.attn.proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("blocks.{i}.norm2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("blocks.{i}.norm2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("blocks.{i}.mlp.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":    ("blocks.{i}.mlp.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("blocks.{i}.mlp.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("blocks.{i}.mlp.fc2.bias", "D"),
    "merger.norm.gain":                   ("merger.ln_q.weight", "D"),
    "merger.norm.bias":                   ("merger.ln_q.bias", "D"),
    "merger.up.weight":                   ("merger.mlp.0.weight", "(M M)ᵀ"),
    "merger.up.bias":                     ("merger.mlp.0.bias", "M"),
    "merger.down.weight":                 ("merger.mlp.2.weight", "(O M)ᵀ"),
    "merger.down.bias":                   ("merger.mlp.2.bias", "O"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Qwen2VLVisionConfig, rope: GridRotary):
        H, K = c.num_heads, c.sizes["K"]
        self.attention_norm = LayerNorm(w / "attention_norm", eps=EPS)
        self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K, rope=rope)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=EPS)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream of the patches (n, N, D) to the residual stream (n, N, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Merger(Module):
    """Squares of m × m neighbours become one vector each, of the decoder's width.

    w        ``norm``, and ``up`` (m²D, m²D) and ``down`` (m²D, O), linear layers
    squares  m
    """

    def __init__(self, w: Weights, squares: int):
        self.norm = LayerNorm(w / "norm", eps=EPS)
        self.feed_forward = FeedForward(w, gelu)
        self.squares = squares

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, rows, columns, D) to (n, rows/m, columns/m, O)."""
        x = tap("norm", self.norm(x))
        return self.feed_forward(pixel_shuffle(x, self.squares))


class Qwen2VLVision(VisionEncoder[Qwen2VLVisionConfig]):
    """The vision encoder of Qwen2-VL, with its merger."""

    Config = Qwen2VLVisionConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"rotary_pos_emb\.inv_freq"

    def build(self, w: Weights, c: Qwen2VLVisionConfig) -> None:
        """Build the patch embedding, the blocks and the merger."""
        K = c.sizes["K"]
        rope = GridRotary(frequencies_twice(K, c.theta), halves(K // 2))
        self.patches = FilmPatchEmbedding(w / "patches")
        self.blocks = [Block(w / f"blocks.{i}", c, rope) for i in range(c.depth)]
        self.merger = Merger(w / "merger", c.spatial_merge_size)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray:
        """Encode images (n, C, h, w) of one size: (n, h/pm, w/pm, O)."""
        x = tap("embedding.patches", self.patches(tiles))  # (n, rows, columns, D)
        n, rows, columns, D = x.shape
        x = self.through_blocks(x.reshape(n, rows * columns, D), GridStep(n, rows, columns))
        with scope("merger"):
            return self.merger(x.reshape(n, rows, columns, D))
