"""SigLIP's vision encoder (Zhai et al. 2023, arXiv:2303.15343): a ViT without a class token.

    x₀ = patches · W + positions
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    vectors = norm(x)
    pooled  = y + feed-forward(norm(y)),   y = attention(probe, vectors)

All images are resized to one square: every patch has the learned position of its place. Models of text and
images read the vectors of the patches. For a comparison with a text there is one vector of the whole image:
a learned query, the probe, attends to all patches (Lee et al. 2019, arXiv:1810.00825).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.interpolation import interpolated
from tinystar_np.kernels.masks import Mask
from tinystar_np.layers.attention import EncoderAttention, attend, heads_apart, heads_joined
from tinystar_np.layers.basic import FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import PatchEmbedding
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import scope, tap


@dataclass(frozen=True)
class SiglipVisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers.

    ``vision_use_head`` says whether there is a probe. What reads patches alone asks neither the key nor the
    probe's weights.
    """

    hidden_size: int = key(768, letter="D")
    intermediate_size: int = key(3072, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(12, letter="H")
    num_channels: int = key(3, letter="C")
    image_size: int = 224
    patch_size: int = key(16, letter="P")
    hidden_act: str = activation_key("gelu_pytorch_tanh")
    layer_norm_eps: float = key(1e-6, above=0)

    @property
    def side(self) -> int:
        """How many patches a side of an image has."""
        return self.image_size // self.patch_size

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters, with N for the positions."""
        return {**super().sizes, "N": self.side**2}

    def check(self) -> None:
        """Refuse patches of no pixels, or larger than an image."""
        require(
            1 <= self.patch_size <= self.image_size,
            f"patch_size = {self.patch_size} must be at least 1 and at most image_size = {self.image_size}.",
        )
        super().check()


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape
    "patches.weight":                     ("embeddings.patch_embedding.weight", "D C P P"),
    "patches.bias":                       ("embeddings.patch_embedding.bias", "D"),
    "positions":                          ("embeddings.position_embedding.weight", "N D"),
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

POOLING_HEAD: WeightTable = {
    "pooling.probe":                      ("head.probe", "1 1 D"),
    "pooling.attention.q.weight":         ("head.attention.in_proj_weight[:D]", "(3D D)ᵀ"),
    "pooling.attention.q.bias":           ("head.attention.in_proj_bias[:D]", "3D"),
    "pooling.attention.k.weight":         ("head.attention.in_proj_weight[D:2D]", "(3D D)ᵀ"),
    "pooling.attention.k.bias":           ("head.attention.in_proj_bias[D:2D]", "3D"),
    "pooling.attention.v.weight":         ("head.attention.in_proj_weight[2D:]", "(3D D)ᵀ"),
    "pooling.attention.v.bias":           ("head.attention.in_proj_bias[2D:]", "3D"),
    "pooling.attention.out.weight":       ("head.attention.out_proj.weight", "(D D)ᵀ"),
    "pooling.attention.out.bias":         ("head.attention.out_proj.bias", "D"),
    "pooling.norm.gain":                  ("head.layernorm.weight", "D"),
    "pooling.norm.bias":                  ("head.layernorm.bias", "D"),
    "pooling.feed_forward.up.weight":     ("head.mlp.fc1.weight", "(F D)ᵀ"),
    "pooling.feed_forward.up.bias":       ("head.mlp.fc1.bias", "F"),
    "pooling.feed_forward.down.weight":   ("head.mlp.fc2.weight", "(D F)ᵀ"),
    "pooling.feed_forward.down.bias":     ("head.mlp.fc2.bias", "D"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: SiglipVisionConfig):
        H, K, eps = c.num_attention_heads, c.sizes["K"], c.layer_norm_eps
        self.attention_norm = LayerNorm(w / "attention_norm", eps=eps)
        self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream of the patches (n, N, D) to the residual stream (n, N, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class SiglipVision(VisionEncoder[SiglipVisionConfig]):
    """SigLIP's vision encoder, as models of text and images have it: a vector for each patch."""

    Config = SiglipVisionConfig
    WEIGHTS = WEIGHTS
    PREFIX = "vision_model."
    IGNORED = r"head\..*|embeddings\.position_ids"

    def build(self, w: Weights, c: SiglipVisionConfig) -> None:
        """Build the patch embedding, the positions, the blocks and the last norm."""
        self.patches = PatchEmbedding(w / "patches")
        self.positions: NDArray = w["positions"].reshape(c.side, c.side, -1)
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)

    def __call__(self, images: NDArray[np.float32], interpolate: bool = False) -> NDArray:
        """Encode images (n, C, h, w) of one size: (n, rows, columns, D).

        interpolate  whether images may be of another size than the config's; their patches then have the
                     positions that ``kernels/interpolation.py`` makes of the learned ones
        """
        x = self.embed(images, interpolate)
        n, h, w, D = x.shape
        x = self.through_blocks(x.reshape(n, h * w, D))
        return tap("final_norm", self.final_norm(x)).reshape(n, h, w, D)

    def embed(self, images: NDArray[np.float32], interpolate: bool = False) -> NDArray:
        """Turn images (n, C, h, w) into the first vectors of the residual stream (n, rows, columns, D).

        interpolate  as of the call

        Raises InputError for images of another size than the config's, unless ``interpolate`` is set.
        """
        x = tap("embedding.patches", self.patches(images))
        rows, columns = x.shape[1:3]
        positions = self.positions
        if (rows, columns) != positions.shape[:2]:
            if interpolate and min(rows, columns) > 0:
                return x + interpolated(positions, rows, columns)
            side = self.config.image_size
            raise InputError(
                f"The model reads images of {side} × {side} pixels, and one has {images.shape[2]} × "
                f"{images.shape[3]}. preprocessor_config.json is perhaps that of another model."
            )
        return x + positions


class PoolingHead(Module):
    """One vector for a whole image: a learned query attends to the vectors of all patches."""

    def __init__(self, w: Weights, c: SiglipVisionConfig):
        self.probe: NDArray = w["probe"]  # (1, 1, D)
        self.heads, self.head_dim = c.num_attention_heads, c.sizes["K"]
        self.q, self.k, self.v, self.out = (
            Linear(w / f"attention.{name}") for name in ("q", "k", "v", "out")
        )
        self.norm = LayerNorm(w / "norm", eps=c.layer_norm_eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])

    def __call__(self, x: NDArray) -> NDArray:
        """Map the vectors of the patches (n, N, D) to one vector for each image (n, D)."""
        probe = np.broadcast_to(self.probe, (len(x), *self.probe.shape[1:]))  # (n, 1, D)
        q, k, v = (
            heads_apart(layer(y), self.heads) for layer, y in ((self.q, probe), (self.k, x), (self.v, x))
        )
        everything = Mask(np.zeros(1, dtype=np.int64), np.arange(x.shape[1]), causal=False)
        y = attend(q, k, v, everything, scale=self.head_dim**-0.5)  # (n, H, 1, K)
        y = tap("attention.out", self.out(heads_joined(tap("attention.mixed", y))))
        normed = tap("feed_forward_norm", self.norm(y))
        return (y + self.feed_forward(normed))[:, 0]


class PooledSiglipVision(SiglipVision):
    """SigLIP's vision encoder with its pooling head, for one vector of the whole image."""

    WEIGHTS: ClassVar = {**WEIGHTS, **POOLING_HEAD}
    IGNORED = r"embeddings\.position_ids"

    def build(self, w: Weights, c: SiglipVisionConfig) -> None:
        """Build the encoder and the pooling head."""
        super().build(w, c)
        self.pooling = PoolingHead(w / "pooling", c)

    def pooled(self, vectors: NDArray) -> NDArray:
        """Take one vector for each image out of those of its patches: (n, rows, columns, D) → (n, D)."""
        n, _, _, D = vectors.shape
        with scope("pooling"):
            return self.pooling(vectors.reshape(n, -1, D))
