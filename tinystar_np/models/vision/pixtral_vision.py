"""Pixtral's vision encoder (Agrawal et al. 2024, arXiv:2410.07073), which reads images at their own size.

    x₀ = norm(patches · W)
    x → norm → attention, rotated by rows and columns ──+ x → norm → feed-forward ──+ x      (× L)

Made anew for a language model, and built like one: RMS norms, a gated feed-forward layer, no biases, and
rotary embedding in place of a table of learned positions. A table has a row for each patch of an image of one
size; rotations by row and column know distances, in an image of any height and width. So images are neither
cut into tiles nor stretched to a square. The patches of an image see one another, and no other image's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.rope_axes import frequencies_in_turns, halves
from tinystar_np.layers.attention import EncoderAttention
from tinystar_np.layers.basic import GatedFeedForward, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import PatchEmbedding
from tinystar_np.layers.rope_axes import GridRotary, GridStep
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.axial import axial_theta
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import tap

NORM_EPS = 1e-5
"""Of all norms; no key says another."""


@dataclass(frozen=True)
class PixtralVisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers.

    ``head_dim`` can only say what the width divided among the heads is. ``image_size`` is the largest that
    the encoder has learned from; it computes any.
    """

    hidden_size: int = key(1024, letter="D")
    intermediate_size: int = key(4096, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(16, letter="H")
    head_dim: int | None = None
    num_channels: int = key(3, letter="C")
    patch_size: int = key(16, letter="P")
    hidden_act: str = activation_key("gelu")
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None

    @property
    def theta(self) -> float:
        """The base of the rotations by rows and columns."""
        return axial_theta(vars(self))

    def check(self) -> None:
        """Refuse heads that have no pairs, or another width than their part of the vectors."""
        super().check()
        K, _ = self.sizes["K"], self.theta
        heads = f"hidden_size = {self.hidden_size} and num_attention_heads = {self.num_attention_heads}"
        require(K % 2 == 0, f"{heads} make heads of {K} numbers, which are no pairs to rotate.")
        require(
            self.head_dim in (None, K),
            f"head_dim = {self.head_dim}, but {heads} make heads of {K} numbers.",
        )


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape
    "patches.weight":                      ("patch_conv.weight", "D C P P"),
    "first_norm.gain":                     ("ln_pre.weight", "D"),
    "blocks.{i}.attention_norm.gain":      ("transformer.layers.{i}.attention_norm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("transformer.layers.{i}.attention.q_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.k.weight":       ("transformer.layers.{i}.attention.k_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.v.weight":       ("transformer.layers.{i}.attention.v_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("transformer.layers.{i}.attention.o_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("transformer.layers.{i}.ffn_norm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("transformer.layers.{i}.feed_forward.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("transformer.layers.{i}.feed_forward.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("transformer.layers.{i}.feed_forward.down_proj.weight", "(D F)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: PixtralVisionConfig, rope: GridRotary):
        H, K = c.num_attention_heads, c.sizes["K"]
        self.attention_norm = RMSNorm(w / "attention_norm", eps=NORM_EPS)
        self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K, rope=rope)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=NORM_EPS)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream of the patches (n, N, D) to the residual stream (n, N, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class PixtralVision(VisionEncoder[PixtralVisionConfig]):
    """The vision encoder of Pixtral 12B, Mistral Small 3.1 and Ministral 3."""

    Config = PixtralVisionConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"patch_positional_embedding\.inv_freq"
    PREFIX = "vision_model."  # in MLX's files

    def build(self, w: Weights, c: PixtralVisionConfig) -> None:
        """Build the patch embedding, the first norm and the blocks."""
        K = c.sizes["K"]
        rope = GridRotary(frequencies_in_turns(K, c.theta), halves(K // 2))
        self.patches = PatchEmbedding(w / "patches")
        self.first_norm = RMSNorm(w / "first_norm", eps=NORM_EPS)
        self.blocks = [Block(w / f"blocks.{i}", c, rope) for i in range(c.num_hidden_layers)]

    def __call__(self, images: NDArray[np.float32], number: int = -1) -> NDArray:
        """Encode images (n, C, h, w) of one size: (n, h/p, w/p, D).

        number  of the place in the residual stream whose vectors are returned, as in ``hidden_states``
        """
        P = self.config.patch_size
        n, _, h, w = images.shape
        return self.hidden_states(images, [number])[0].reshape(n, h // P, w // P, -1)

    def hidden_states(self, tiles: NDArray[np.float32], numbers: Sequence[int]) -> list[NDArray]:
        """Encode images (n, C, h, w) of one size: the residual stream at some places, each (n, N, D).

        numbers  of the places: 0 is before the first block, i after so many of them, −1 after the last
        """
        x = self.embed(tiles)
        n, rows, columns, D = x.shape
        return self.residuals(x.reshape(n, rows * columns, D), numbers, GridStep(n, rows, columns))

    def embed(self, tiles: NDArray[np.float32]) -> NDArray:
        """Turn images (n, C, h, w) into the first vectors of the residual stream (n, h/p, w/p, D)."""
        return self.first_norm(tap("embedding.patches", self.patches(tiles)))
