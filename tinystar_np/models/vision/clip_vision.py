"""CLIP's vision encoder (Radford et al. 2021, arXiv:2103.00020), which reads the images of LLaVA too.

    x₀ = norm([class, patches · W] + positions)
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    pooled = norm(x of the class)

A vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): before the patches stands a learned vector,
the class, which gathers what is said of the whole image. New beside it are the norm before the first block
and a cheap activation, x · sigmoid(1.702 x). It has learned to give an image the vector of its caption
(models/clip.py). Those who want the patches and not the caption take an earlier block's vectors, mostly the
last but one's: the last block has learned to tell the class all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.interpolation import interpolated
from tinystar_np.layers.attention import EncoderAttention
from tinystar_np.layers.basic import FeedForward, LayerNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import PatchEmbedding
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import tap


@dataclass(frozen=True)
class ClipVisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers."""

    hidden_size: int = key(768, letter="D")
    intermediate_size: int = key(3072, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(12, letter="H")
    num_channels: int = key(3, letter="C")
    image_size: int = key(224, least=1)
    patch_size: int = key(32, letter="P", least=1)
    hidden_act: str = activation_key("quick_gelu")
    layer_norm_eps: float = key(1e-5, above=0)

    @property
    def side(self) -> int:
        """How many patches a side of an image has."""
        return self.image_size // self.patch_size

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters, with N for the patches of an image."""
        return {**super().sizes, "N": self.side**2}

    def check(self) -> None:
        """Refuse an image smaller than a patch."""
        self._check_keys()
        require(
            self.side >= 1, f"image_size = {self.image_size} is less than patch_size = {self.patch_size}."
        )
        super().check()


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape
    "class":                              ("embeddings.class_embedding", "D"),
    "patches.weight":                     ("embeddings.patch_embedding.weight", "D C P P"),
    "positions":                          ("embeddings.position_embedding.weight", "N+1 D"),
    "first_norm.gain":                    ("pre_layrnorm.weight", "D"),
    "first_norm.bias":                    ("pre_layrnorm.bias", "D"),
    "blocks.{i}.attention_norm.gain":     ("encoder.layers.{i}.layer_norm1.weight", "D"),
    "blocks.{i}.attention_norm.bias":     ("encoder.layers.{i}.layer_norm1.bias", "D"),
    "blocks.{i}.attention.q.weight":      ("encoder.layers.{i}.self_attn.q_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.q.bias":        ("encoder.layers.{i}.self_attn.q_proj.bias", "D"),
    "blocks.{i}.attention.k.weight":      ("encoder.layers.{i}.self_attn.k_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.k.bias":        ("encoder.layers.{i}.self_attn.k_proj.bias", "D"),
    "blocks.{i}.attention.v.weight":      ("encoder.layers.{i}.self_attn.v_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.v.bias":        ("encoder.layers.{i}.self_attn.v_proj.bias", "D"),
    "blocks.{i}.attention.out.weight":    ("encoder.layers.{i}.self_attn.out_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.out.bias":      ("encoder.layers.{i}.self_attn.out_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("encoder.layers.{i}.layer_norm2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("encoder.layers.{i}.layer_norm2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("encoder.layers.{i}.mlp.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":    ("encoder.layers.{i}.mlp.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("encoder.layers.{i}.mlp.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("encoder.layers.{i}.mlp.fc2.bias", "D"),
    "final_norm.gain":                    ("post_layernorm.weight", "D"),
    "final_norm.bias":                    ("post_layernorm.bias", "D"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: ClipVisionConfig):
        H, K, eps = c.num_attention_heads, c.sizes["K"], c.layer_norm_eps
        self.attention_norm = LayerNorm(w / "attention_norm", eps=eps)
        self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream (n, 1+N, D) to the residual stream (n, 1+N, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class ClipVision(VisionEncoder[ClipVisionConfig]):
    """The vision encoder of CLIP, and of LLaVA."""

    Config = ClipVisionConfig
    WEIGHTS = WEIGHTS
    PREFIX = "vision_model."
    IGNORED = r"embeddings\.position_ids"

    def build(self, w: Weights, c: ClipVisionConfig) -> None:
        """Build the class, the patch embedding, the positions, the blocks and both norms."""
        self.class_vector: NDArray = w["class"]
        self.patches = PatchEmbedding(w / "patches")
        self.positions: NDArray = w["positions"]
        self.first_norm = LayerNorm(w / "first_norm", eps=c.layer_norm_eps)
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)

    def __call__(self, tiles: NDArray[np.float32], interpolate: bool = False) -> NDArray:
        """Encode images (n, C, h, w) of one size: (n, 1+N, D), the class first, then the patches.

        interpolate  whether images may be of another size than ``image_size``; their patches then have the
                     positions that ``kernels/interpolation.py`` makes of the learned ones

        Raises InputError for another size, unless ``interpolate`` is set.
        """
        return self.through_blocks(self.embed(tiles, interpolate))

    def pooled(self, x: NDArray) -> NDArray:
        """Return what is said of the whole image: (n, 1+N, D), what the call returns → (n, D)."""
        return tap("final_norm", self.final_norm(x[:, 0]))

    def embed(self, tiles: NDArray[np.float32], interpolate: bool = False) -> NDArray:
        """Turn images (n, C, h, w) into the first vectors of the residual stream (n, 1+N, D)."""
        x = tap("embedding.patches", self.patches(tiles))  # (n, h/p, w/p, D)
        n, rows, columns, D = x.shape
        positions = self.positions_of(tiles.shape[-2], tiles.shape[-1], interpolate)
        first = np.broadcast_to(self.class_vector, (n, 1, D))
        x = np.concatenate([first, x.reshape(n, rows * columns, D)], axis=1)
        return self.first_norm(x + positions)

    def positions_of(self, height: int, width: int, interpolate: bool) -> NDArray:
        """Return the positions of the class and of an image's patches: (1+N, D); raises InputError."""
        c = self.config
        if height == width == c.image_size:
            return self.positions
        if not interpolate or min(height, width) < c.patch_size:
            raise InputError(
                f"An image has {height} × {width} pixels, but this encoder reads {c.image_size} × "
                f"{c.image_size}. preprocessor_config.json is perhaps that of another model."
            )
        learned = self.positions[1:].reshape(c.side, c.side, -1)
        made = interpolated(learned, height // c.patch_size, width // c.patch_size)
        return np.concatenate([self.positions[:1], made.reshape(-1, made.shape[-1])])
