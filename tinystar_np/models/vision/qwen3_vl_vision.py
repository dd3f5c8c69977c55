"""The vision encoder of Qwen3-VL (Qwen Team 2025, arXiv:2511.21631).

    x₀ = patches · W + b + positions
    x → norm → attention, q and k rotated by row and column ──+ x → norm → feed-forward ──+ x      (× L)
    vectors = W₂ · gelu(W₁ · [2 × 2 neighbours of norm(x)])
    further vectors, after some of the blocks: W₂ · gelu(W₁ · norm(2 × 2 neighbours of x))

It grew from SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786): patches of 16 × 16 pixels, a learned position
for each place of a grid of 48 × 48, interpolated for images of other sizes, and rotations besides. Mergers of
their own make vectors of the stream after some early blocks, which the decoder adds in its first blocks
(DeepStack, Meng et al. 2024, arXiv:2406.04334).
"""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, gelu
from tinystar_np.kernels.interpolation import interpolated
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
class Qwen3VLVisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers."""

    REFUSED: ClassVar = {"head_dim": (None,)}

    depth: int = key(27, letter="L", aliases=("num_hidden_layers",))
    hidden_size: int = key(1152, letter="D")
    out_hidden_size: int = key(3584, letter="O")
    intermediate_size: int = key(4304, letter="F")
    hidden_act: str = activation_key("gelu_pytorch_tanh")
    num_heads: int = key(16, letter="H", aliases=("num_attention_heads",))
    in_channels: int = key(3, letter="C", aliases=("in_chans",))
    patch_size: int = key(16, letter="P")
    spatial_merge_size: int = key(2, least=1)
    temporal_patch_size: int = key(2, letter="T")
    num_position_embeddings: int = key(2304, letter="N")
    deepstack_visual_indexes: list[int] | None = key(None, null_is_silence=True)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: O the decoder's width, M of what a merger puts together, N positions."""
        return {**super().sizes, "M": self.hidden_size * self.spatial_merge_size**2}

    @property
    def side(self) -> int:
        """How many positions a side of the learned grid has."""
        return isqrt(self.num_position_embeddings)

    @property
    def deep(self) -> list[int]:
        """The block after which each of the further mergers reads."""
        return [8, 16, 24] if self.deepstack_visual_indexes is None else self.deepstack_visual_indexes

    @property
    def deep_mergers(self) -> range:
        """The numbers of the further mergers."""
        return range(len(self.deep))

    @property
    def theta(self) -> float:
        """The base of the rotations."""
        return axial_theta(vars(self))

    def check(self) -> None:
        """Refuse heads that cannot be rotated by rows and columns, and mergers after no block."""
        super().check()
        K = self.sizes["K"]
        require(
            K % 4 == 0,
            f"hidden_size = {self.hidden_size} and num_heads = {self.num_heads} make heads of width {K}, but "
            "rotations by rows and columns need a multiple of 4.",
        )
        require(
            len({*self.deep}) == len(self.deep) and {*self.deep} <= {*range(self.depth)},
            f"deepstack_visual_indexes = {shown(self.deep)}, but they must be different ones of the "
            f"{self.depth} blocks, counted from 0.",
        )
        axial_theta(vars(self))  # raises its errors


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape
    "patches.weight":                     ("patch_embed.proj.weight", "D C T P P"),
    "patches.bias":                       ("patch_embed.proj.bias", "D"),
    "positions":                          ("pos_embed.weight", "N D"),
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
    "blocks.{i}.feed_forward.up.weight":  ("blocks.{i}.mlp.linear_fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":    ("blocks.{i}.mlp.linear_fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("blocks.{i}.mlp.linear_fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("blocks.{i}.mlp.linear_fc2.bias", "D"),
    "merger.norm.gain":                   ("merger.norm.weight", "D"),
    "merger.norm.bias":                   ("merger.norm.bias", "D"),
    "merger.up.weight":                   ("merger.linear_fc1.weight", "(M M)ᵀ"),
    "merger.up.bias":                     ("merger.linear_fc1.bias", "M"),
    "merger.down.weight":                 ("merger.linear_fc2.weight", "(O M)ᵀ"),
    "merger.down.bias":                   ("merger.linear_fc2.bias", "O"),
    # Here {i} counts the further mergers, and not blocks.
    "deep.{i}.norm.gain": ("deepstack_merger_list.{i}.norm.weight", "M", "deep_mergers"),
    "deep.{i}.norm.bias": ("deepstack_merger_list.{i}.norm.bias", "M", "deep_mergers"),
    "deep.{i}.up.weight": ("deepstack_merger_list.{i}.linear_fc1.weight", "(M M)ᵀ", "deep_mergers"),
    "deep.{i}.up.bias": ("deepstack_merger_list.{i}.linear_fc1.bias", "M", "deep_mergers"),
    "deep.{i}.down.weight": ("deepstack_merger_list.{i}.linear_fc2.weight", "(O M)ᵀ", "deep_mergers"),
    "deep.{i}.down.bias": ("deepstack_merger_list.{i}.linear_fc2.bias", "O", "deep_mergers"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Qwen3VLVisionConfig, rope: GridRotary):
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

    w        ``up`` (m²D, m²D) and ``down`` (m²D, O), linear layers
    squares  m
    """

    def __init__(self, w: Weights, squares: int):
        self.norm = LayerNorm(w / "norm", eps=EPS)
        self.feed_forward = FeedForward(w, gelu)
        self.squares = squares

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, rows, columns, D) to (n, rows/m, columns/m, O)."""
        return self.feed_forward(pixel_shuffle(tap("norm", self.norm(x)), self.squares))


class DeepMerger(Merger):
    """A merger that norms the m² neighbours as one vector, after they are put side by side."""

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, rows, columns, D) to (n, rows/m, columns/m, O)."""
        return self.feed_forward(tap("norm", self.norm(pixel_shuffle(x, self.squares))))


class Qwen3VLVision(VisionEncoder[Qwen3VLVisionConfig]):
    """The vision encoder of Qwen3-VL, with its mergers."""

    Config = Qwen3VLVisionConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"rotary_pos_emb\.inv_freq"

    def build(self, w: Weights, c: Qwen3VLVisionConfig) -> None:
        """Build the patch embedding, the positions, the blocks and the mergers."""
        K = c.sizes["K"]
        rope = GridRotary(frequencies_twice(K, c.theta), halves(K // 2))
        self.patches = FilmPatchEmbedding(w / "patches")
        self.positions: NDArray = w["positions"][: c.side**2].reshape(c.side, c.side, -1)
        self.blocks = [Block(w / f"blocks.{i}", c, rope) for i in range(c.depth)]
        self.merger = Merger(w / "merger", c.spatial_merge_size)
        self.deep = [DeepMerger(w / f"deep.{i}", c.spatial_merge_size) for i in c.deep_mergers]

    def __call__(self, tiles: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """Encode images (n, C, h, w) of one size.

        Returns their vectors (n, h/pm, w/pm, O), and the further ones (M, n, h/pm, w/pm, O), of which those
        of the earliest block are the first.
        """
        x = tap("embedding.patches", self.patches(tiles))  # (n, rows, columns, D)
        n, rows, columns, D = grid = x.shape
        positions = interpolated(self.positions, rows, columns, cubic=False, corners_meet=True)
        x = (x + positions).reshape(n, rows * columns, D)
        early = sorted(self.config.deep)
        *streams, x = self.residuals(x, [*(i + 1 for i in early), -1], GridStep(n, rows, columns))
        with scope("merger"):
            vectors = self.merger(x.reshape(grid))
        deep = np.empty((len(early), *vectors.shape), dtype=vectors.dtype)
        for number, (i, stream) in enumerate(zip(early, streams, strict=True)):
            merger = self.config.deep.index(i)
            with scope(f"deep.{merger}"):
                deep[number] = self.deep[merger](stream.reshape(grid))
        return vectors, deep
