"""The vision encoder of Qwen2.5-VL (Qwen Team 2025, arXiv:2502.13923).

    x₀ = patches · W
    x → norm → attention, q and k rotated by row and column ──+ x → norm → feed-forward ──+ x      (× L)
    vectors = W₂ · gelu(W₁ · [2 × 2 neighbours of norm(x)])

Qwen2-VL's encoder (qwen2_vl_vision.py) made cheap for large images: in most blocks a patch sees its window of
112 × 112 pixels, 8 × 8 patches, and only in some, four of 32, the whole image. The rest is as in language
models: RMSNorm, and feed-forward layers with a gate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Held, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, gelu
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.pixel_shuffle import pixel_shuffle
from tinystar_np.kernels.rope_axes import frequencies_twice, grid_positions, halves
from tinystar_np.layers.attention import EncoderAttention, as_array
from tinystar_np.layers.basic import FeedForward, GatedFeedForward, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import FilmPatchEmbedding
from tinystar_np.layers.rope_axes import GridRotary, GridStep
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.axial import axial_theta
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import listening, scope, tap

EPS = 1e-6


@dataclass(frozen=True)
class Qwen25VLVisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers."""

    REFUSED: ClassVar = {"head_dim": (None,)}

    depth: int = key(32, letter="L", aliases=("num_hidden_layers",))
    hidden_size: int = key(3584, letter="D")
    out_hidden_size: int = key(3584, letter="O")
    intermediate_size: int = key(3420, letter="F")
    hidden_act: str = activation_key("silu")
    num_heads: int = key(16, letter="H", aliases=("num_attention_heads",))
    in_channels: int = key(3, letter="C", aliases=("in_chans",))
    patch_size: int = key(14, letter="P")
    spatial_merge_size: int = key(2, least=1)
    temporal_patch_size: int = key(2, letter="T")
    window_size: int = 112
    fullatt_block_indexes: list[int] | None = key(None, null_is_silence=True)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: O the decoder's width, M of what the merger puts together, T frames."""
        return {**super().sizes, "M": self.hidden_size * self.spatial_merge_size**2}

    @property
    def window(self) -> int:
        """How many patches a side of a window has: those of whole vectors."""
        return self.window_size // self.spatial_merge_size // self.patch_size * self.spatial_merge_size

    @property
    def full_blocks(self) -> Sequence[int]:
        """The blocks in which a patch sees the whole image."""
        return (7, 15, 23, 31) if self.fullatt_block_indexes is None else self.fullatt_block_indexes

    @property
    def theta(self) -> float:
        """The base of the rotations."""
        return axial_theta(vars(self))

    def check(self) -> None:
        """Refuse heads that cannot be rotated by rows and columns, and windows of nothing."""
        super().check()
        K = self.sizes["K"]
        require(
            K % 4 == 0,
            f"hidden_size = {self.hidden_size} and num_heads = {self.num_heads} make heads of width {K}, but "
            "rotations by rows and columns need a multiple of 4.",
        )
        require(
            self.window >= 1,
            f"window_size = {self.window_size} is less than patch_size = {self.patch_size} times "
            f"spatial_merge_size = {self.spatial_merge_size}, the side of what becomes one vector.",
        )
        axial_theta(vars(self))  # raises its errors


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape
    "patches.weight":                     ("patch_embed.proj.weight", "D C T P P"),
    "blocks.{i}.attention_norm.gain":     ("blocks.{i}.norm1.weight", "D"),
    "blocks.{i}.attention.q.weight":      ("blocks.{i}.attn.qkv.weight[:D]", "(3D D)ᵀ"),
    "blocks.{i}.attention.q.bias":        ("blocks.{i}.attn.qkv.bias[:D]", "3D"),
    "blocks.{i}.attention.k.weight":      ("blocks.{i}.attn.qkv.weight[D:2D]", "(3D D)ᵀ"),
    "blocks.{i}.attention.k.bias":        ("blocks.{i}.attn.qkv.bias[D:2D]", "3D"),
    "blocks.{i}.attention.v.weight":      ("blocks.{i}.attn.qkv.weight[2D:]", "(3D D)ᵀ"),
    "blocks.{i}.attention.v.bias":        ("blocks.{i}.attn.qkv.bias[2D:]", "3D"),
    "blocks.{i}.attention.out.weight":    ("blocks.{i}.attn.proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.out.bias":      ("blocks.{i}.attn.proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("blocks.{i}.norm2.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("blocks.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":  ("blocks.{i}.mlp.gate_proj.bias", "F"),
    "blocks.{i}.feed_forward.up.weight":  ("blocks.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":    ("blocks.{i}.mlp.up_proj.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("blocks.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("blocks.{i}.mlp.down_proj.bias", "D"),
    "merger.norm.gain":                   ("merger.ln_q.weight", "D"),
    "merger.up.weight":                   ("merger.mlp.0.weight", "(M M)ᵀ"),
    "merger.up.bias":                     ("merger.mlp.0.bias", "M"),
    "merger.down.weight":                 ("merger.mlp.2.weight", "(O M)ᵀ"),
    "merger.down.bias":                   ("merger.mlp.2.bias", "O"),
}  # fmt: skip


class WindowAttention(EncoderAttention):
    """Attention in which each patch sees those of its window, a square of the image.

    Windows begin at the upper left; those at the right and below may be smaller. All of one size are a batch,
    so that no scores are computed of patches that do not see each other.

    w, heads, head_dim, rope  as in ``Attention``
    side                      how many patches a side of a window has
    """

    def __init__(self, w: Weights, *, heads: int, head_dim: int, rope: GridRotary, side: int):
        super().__init__(w, heads=heads, head_dim=head_dim, rope=rope)
        self.side = side
        self.remark = f"within windows of {side} × {side} patches"

    def attend(self, q: NDArray, k: Held, v: Held, mask: Mask, step: Step) -> NDArray:
        """Apply the kernel in each window: queries, keys and values (n, H, rows · columns, K) → the same."""
        assert isinstance(step, GridStep)
        if listening("attention.scores", "attention.probabilities"):
            row, column = grid_positions(step.rows, step.columns) // self.side
            windows = row * step.columns + column  # a number for each, at distance 0 from itself alone
            return super().attend(q, k, v, Mask(windows, windows, window=1, causal=False), step)
        grid = (*q.shape[:2], step.rows, step.columns, self.head_dim)
        q, k, v = (as_array(x).reshape(grid) for x in (q, k, v))
        y = np.empty_like(q)
        for rows in self.parts(step.rows):
            for columns in self.parts(step.columns):
                part = np.s_[:, :, rows, columns]
                q_cut, k_cut, v_cut = (self.windows(x[part]) for x in (q, k, v))
                patches = np.arange(q_cut.shape[2])
                seen = super().attend(q_cut, k_cut, v_cut, Mask(patches, patches, causal=False), step)
                y[part] = self.joined(seen, y[part].shape)
        return y.reshape(*grid[:2], -1, self.head_dim)

    def parts(self, count: int) -> list[slice]:
        """Divide the rows or columns of an image into those of whole windows, and those that are left."""
        whole = count - count % self.side
        return [part for part in (slice(0, whole), slice(whole, count)) if part.start < part.stop]

    def windows(self, x: NDArray) -> NDArray:
        """Cut a part of an image into windows: (n, H, rows, columns, K) → (windows, H, patches, K)."""
        n, H, rows, columns, K = x.shape
        h, w = min(rows, self.side), min(columns, self.side)
        x = x.reshape(n, H, rows // h, h, columns // w, w, K).transpose(0, 2, 4, 1, 3, 5, 6)
        return x.reshape(-1, H, h * w, K)

    def joined(self, x: NDArray, shape: tuple[int, ...]) -> NDArray:
        """Put windows together again, what ``windows`` cut from an array of this shape."""
        n, H, rows, columns, K = shape
        h, w = min(rows, self.side), min(columns, self.side)
        x = x.reshape(n, rows // h, columns // w, H, h, w, K).transpose(0, 3, 1, 4, 2, 5, 6)
        return x.reshape(shape)


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Qwen25VLVisionConfig, rope: GridRotary, i: int):
        H, K = c.num_heads, c.sizes["K"]
        self.attention_norm = RMSNorm(w / "attention_norm", eps=EPS)
        if i in c.full_blocks:
            self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K, rope=rope)
        else:
            self.attention = WindowAttention(w / "attention", heads=H, head_dim=K, rope=rope, side=c.window)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=EPS)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
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
        self.norm = RMSNorm(w / "norm", eps=EPS)
        self.feed_forward = FeedForward(w, gelu)
        self.squares = squares

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, rows, columns, D) to (n, rows/m, columns/m, O)."""
        x = tap("norm", self.norm(x))
        return self.feed_forward(pixel_shuffle(x, self.squares))


class Qwen25VLVision(VisionEncoder[Qwen25VLVisionConfig]):
    """The vision encoder of Qwen2.5-VL, with its merger."""

    Config = Qwen25VLVisionConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"rotary_pos_emb\.inv_freq"

    def build(self, w: Weights, c: Qwen25VLVisionConfig) -> None:
        """Build the patch embedding, the blocks and the merger."""
        K = c.sizes["K"]
        rope = GridRotary(frequencies_twice(K, c.theta), halves(K // 2))
        self.patches = FilmPatchEmbedding(w / "patches")
        self.blocks = [Block(w / f"blocks.{i}", c, rope, i) for i in range(c.depth)]
        self.merger = Merger(w / "merger", c.spatial_merge_size)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray:
        """Encode images (n, C, h, w) of one size: (n, h/pm, w/pm, O)."""
        P = self.config.patch_size
        n, _, h, w = tiles.shape
        (x,) = self.hidden_states(tiles, [-1])
        with scope("merger"):
            return self.merger(x.reshape(n, h // P, w // P, -1))

    def step(self, x: NDArray) -> Step:
        """Say in which row and column each patch stands: (n, rows, columns, D), what ``embed`` returned."""
        return GridStep(*x.shape[:3])

    def embed(self, tiles: NDArray[np.float32]) -> NDArray:
        """Turn images (n, C, h, w) into the first vectors of the residual stream (n, h/p, w/p, D)."""
        return tap("embedding.patches", self.patches(tiles))
