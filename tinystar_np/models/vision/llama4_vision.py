"""Llama 4's vision encoder (Meta 2025): a tile is read by positions of two kinds, its class last.

    x₀ = norm([patches · W, class] + positions)
    x → norm → attention, rotated by rows and columns ──+ x → norm → feed-forward ──+ x      (× L)
    vectors = GELU(GELU(pixel shuffle(norm(x)) · W) · W)      without the class

Based on MetaCLIP (Xu et al. 2023, arXiv:2309.16671), and trained anew beside a frozen Llama. A patch has a
learned position, as in CLIP, and its queries and keys rotate by its column and its row, so that distances
need not be learned from the table. The class, which no language model reads, stands after the patches and is
not rotated. The adapter, a pixel shuffle and two layers that keep every patch's share of each vector, counts
as a part of the encoder.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.activations import gelu
from tinystar_np.kernels.patches import patches
from tinystar_np.kernels.pixel_shuffle import pixel_shuffle
from tinystar_np.kernels.rope_axes import frequencies_twice, grid_positions, halves, rotary_angles_by_axis
from tinystar_np.layers.attention import EncoderAttention
from tinystar_np.layers.basic import FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.vision.axial import axial_theta
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import scope, tap

NORM_EPS = 1e-5
"""Of all norms: transformers does not read norm_eps."""


@dataclass(frozen=True)
class Llama4VisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers.

    All activations are the exact GELU, whatever ``hidden_act`` says, and nothing depends on
    ``vision_feature_select_strategy``: the class is left out in any case.
    """

    hidden_size: int = key(768, letter="D")
    intermediate_size: int = key(5632, letter="F")
    num_hidden_layers: int = key(34, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_channels: int = key(3, letter="C")
    image_size: int = key(448, least=1)
    patch_size: int = key(14, letter="P")
    pixel_shuffle_ratio: float = key(0.5, above=0)
    projector_input_dim: int = 4096
    projector_output_dim: int = key(4096, letter="O")
    vision_output_dim: int = 7680
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None

    @property
    def side(self) -> int:
        """How many patches a side of a tile has."""
        return self.image_size // self.patch_size

    @property
    def shuffled(self) -> int:
        """How many patches a side of a square has that becomes one vector."""
        return round(1 / self.pixel_shuffle_ratio)

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters, with N for the patches of a tile."""
        return {**super().sizes, "N": self.side**2}

    @property
    def theta(self) -> float:
        """The base of the rotations by columns and rows."""
        return axial_theta(vars(self))

    def check(self) -> None:
        """Refuse sizes that contradict each other."""
        require(
            1 <= self.patch_size <= self.image_size,
            f"patch_size = {self.patch_size} must be at least 1 and at most image_size = {self.image_size}.",
        )
        super().check()
        side, f, _ = self.side, self.shuffled, self.theta
        require(
            f >= 1 and abs(1 / self.pixel_shuffle_ratio - f) < 1e-6,
            f"pixel_shuffle_ratio = {self.pixel_shuffle_ratio}, but it must be 1, 1/2, 1/3, …",
        )
        require(
            side % f == 0,
            f"pixel_shuffle_ratio = {self.pixel_shuffle_ratio} makes squares of {f} × {f} patches, which do "
            f"not divide the {side} of a side, image_size / patch_size.",
        )
        require(
            self.intermediate_size == f * f * self.hidden_size,
            f"intermediate_size = {self.intermediate_size}, but {f} × {f} patches of hidden_size = "
            f"{self.hidden_size} are {f * f * self.hidden_size} numbers.",
        )
        for name in ("projector_input_dim", "vision_output_dim"):
            given, O = getattr(self, name), self.projector_output_dim  # noqa: E741 — the shape letter
            require(given == O, f"{name} = {given}, but it must be projector_output_dim = {O}.")
        K = self.sizes["K"]
        require(
            K % 4 == 0,
            f"hidden_size = {self.hidden_size} and num_attention_heads = {self.num_attention_heads} make "
            f"heads of {K} numbers, which are no pairs for rows and as many for columns.",
        )


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape
    "patches.weight":                     ("patch_embedding.linear.weight", "(D CPP)ᵀ"),
    "class":                              ("class_embedding", "D"),
    "positions":                          ("positional_embedding_vlm", "N+1 D"),
    "first_norm.gain":                    ("layernorm_pre.weight", "D"),
    "first_norm.bias":                    ("layernorm_pre.bias", "D"),
    "blocks.{i}.attention_norm.gain":     ("model.layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":     ("model.layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight":      ("model.layers.{i}.self_attn.q_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.q.bias":        ("model.layers.{i}.self_attn.q_proj.bias", "D"),
    "blocks.{i}.attention.k.weight":      ("model.layers.{i}.self_attn.k_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.k.bias":        ("model.layers.{i}.self_attn.k_proj.bias", "D"),
    "blocks.{i}.attention.v.weight":      ("model.layers.{i}.self_attn.v_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.v.bias":        ("model.layers.{i}.self_attn.v_proj.bias", "D"),
    "blocks.{i}.attention.out.weight":    ("model.layers.{i}.self_attn.o_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.out.bias":      ("model.layers.{i}.self_attn.o_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("model.layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("model.layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("model.layers.{i}.mlp.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":    ("model.layers.{i}.mlp.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("model.layers.{i}.mlp.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("model.layers.{i}.mlp.fc2.bias", "D"),
    "final_norm.gain":                    ("layernorm_post.weight", "D"),
    "final_norm.bias":                    ("layernorm_post.bias", "D"),
    "adapter.up.weight":                  ("vision_adapter.mlp.fc1.weight", "(O F)ᵀ"),
    "adapter.down.weight":                ("vision_adapter.mlp.fc2.weight", "(O O)ᵀ"),
}  # fmt: skip


class TileStep(Step):
    """The patches of tiles, row by row, and after them the class.

    tiles  n
    side   how many patches a side of a tile has
    """

    def __init__(self, tiles: int, side: int):
        super().__init__(np.zeros(tiles, dtype=np.int64), side * side + 1)
        # Rows and columns are counted from 1: the class, at (0, 0), is not rotated.
        self.places = np.pad(grid_positions(side, side) + 1, ((0, 0), (0, 1)))  # (2, N+1)


class TileRotary(Rotary):
    """Rotates neighbours: the first half of the pairs by the column of a patch, the second by its row.

    Called with a ``TileStep``.
    """

    def __init__(self, head_dim: int, base: float):
        super().__init__(frequencies_twice(head_dim, base), interleaved=True)
        self.axes = 1 - halves(head_dim // 2)

    def _rotations(self, step: Step) -> tuple[NDArray, NDArray]:
        """Make cosines and sines: (N+1, J), the same for all tiles."""
        assert isinstance(step, TileStep)
        angles = rotary_angles_by_axis(step.places, self._frequencies(step), self.axes)
        return np.cos(angles), np.sin(angles)


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Llama4VisionConfig, rope: TileRotary):
        H, K = c.num_attention_heads, c.sizes["K"]
        self.attention_norm = LayerNorm(w / "attention_norm", eps=NORM_EPS)
        self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K, rope=rope)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=NORM_EPS)
        self.feed_forward = FeedForward(w / "feed_forward", gelu)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream (n, N+1, D) to the residual stream (n, N+1, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Llama4Vision(VisionEncoder[Llama4VisionConfig]):
    """The vision encoder of Llama 4 Scout and Maverick, with its adapter."""

    Config = Llama4VisionConfig
    WEIGHTS = WEIGHTS

    def build(self, w: Weights, c: Llama4VisionConfig) -> None:
        """Build the patch embedding, the class, the positions, the blocks, both norms and the adapter."""
        rope = TileRotary(c.sizes["K"], c.theta)
        self.patches = Linear(w / "patches")
        self.class_vector: NDArray = w["class"]
        self.positions: NDArray = w["positions"]
        self.first_norm = LayerNorm(w / "first_norm", eps=NORM_EPS)
        self.blocks = [Block(w / f"blocks.{i}", c, rope) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=NORM_EPS)
        self.adapter = FeedForward(w / "adapter", gelu)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray:
        """Encode tiles (n, C, h, w) of the config's size: (n, side/f, side/f, O).

        Raises InputError for tiles of another size.
        """
        side = self.config.side
        (x,) = self.hidden_states(tiles, [-1])
        x = tap("final_norm", self.final_norm(x))[:, :-1]  # without the class
        x = pixel_shuffle(x.reshape(len(x), side, side, -1), self.config.shuffled)
        x = tap("pixel_shuffle", x)  # (n, side/f, side/f, F)
        with scope("adapter"):
            x = self.adapter(x)
        # Unlike in a feed-forward layer, the second map has its activation too.
        return tap("adapter", fast.activate(x, gelu))

    def step(self, x: NDArray) -> Step:
        """Say in which row and column each patch stands: (n, N+1, D), what ``embed`` returned."""
        return TileStep(len(x), self.config.side)

    def embed(self, tiles: NDArray[np.float32]) -> NDArray:
        """Turn tiles (n, C, h, w) into the first vectors of the residual stream (n, N+1, D).

        Raises InputError for tiles of another size than the config's.
        """
        c = self.config
        if tiles.shape[-2:] != (c.image_size, c.image_size):
            height, width = tiles.shape[-2:]
            raise InputError(
                f"A tile has {height} × {width} pixels, but this encoder reads {c.image_size} × "
                f"{c.image_size}. preprocessor_config.json is perhaps that of another model."
            )
        x = tap("embedding.patches", self.patches(patches(tiles, c.patch_size)))  # (n, side, side, D)
        last = np.broadcast_to(self.class_vector, (len(x), 1, x.shape[-1]))
        x = np.concatenate([x.reshape(len(x), -1, x.shape[-1]), last], axis=1)
        return self.first_norm(x + self.positions)
