"""The vision encoder of Idefics3 and SmolVLM (Laurençon et al. 2024, arXiv:2408.12637).

    x₀ = patches · W + positions
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    vectors = norm(x)

It is SigLIP's (Zhai et al. 2023, arXiv:2303.15343) without its pooling head, and reads images of other
sizes than it was made for as NaViT does (Dehghani et al. 2023, arXiv:2307.06304): a patch has the learned
position at which it lies as a fraction of the image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import EncoderAttention
from tinystar_np.layers.basic import FeedForward, LayerNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import PatchEmbedding
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Idefics3VisionConfig(Config):
    """The keys of a vision_config that change the mathematics; defaults as in transformers."""

    hidden_size: int = key(1152, letter="D")
    intermediate_size: int = key(3072, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_channels: int = key(3, letter="C")
    image_size: int = key(224, least=1)
    patch_size: int = key(32, letter="P")
    hidden_act: str = activation_key("gelu_pytorch_tanh")
    layer_norm_eps: float = key(1e-6, above=0)

    @property
    def side(self) -> int:
        """How many patches a side of an image of the usual size has."""
        return self.image_size // self.patch_size

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters, with N for the positions."""
        return {**super().sizes, "N": self.side**2}

    def check(self) -> None:
        """Refuse an image smaller than a patch."""
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


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Idefics3VisionConfig):
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


class Idefics3Vision(VisionEncoder[Idefics3VisionConfig]):
    """The vision encoder of Idefics3 and of SmolVLM."""

    Config = Idefics3VisionConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"embeddings\.position_ids"

    def build(self, w: Weights, c: Idefics3VisionConfig) -> None:
        """Build the patch embedding, the positions, the blocks and the last norm."""
        self.patches = PatchEmbedding(w / "patches")
        self.positions: NDArray = w["positions"]
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray:
        """Encode images (n, C, h, w) of one size: (n, h/p, w/p, D)."""
        x = self.embed(tiles)
        n, h, w, D = x.shape
        x = self.through_blocks(x.reshape(n, h * w, D))
        return tap("final_norm", self.final_norm(x)).reshape(n, h, w, D)

    def embed(self, tiles: NDArray[np.float32]) -> NDArray:
        """Turn images (n, C, h, w) into the first vectors of the residual stream (n, h/p, w/p, D)."""
        x = tap("embedding.patches", self.patches(tiles))  # (n, rows, columns, D)
        rows, columns = (self.places(count) for count in x.shape[1:3])
        return x + self.positions[rows[:, None] * self.config.side + columns]

    def places(self, count: int) -> NDArray[np.intp]:
        """Return where ``count`` patches lie along a side: which of the side's learned positions each has.

        The comparison is that of transformers, in float32, whose rounding decides for patches at a border.
        How torch rounds the borders depends on the processor. With the 26, 27 and 32 patches of the published
        models that changes nothing; with some other sides (19, 25, 29, 38) a patch may get the next position.
        """
        side = self.config.side
        borders = np.arange(1 / side, 1.0, 1 / side).astype(np.float32)
        fractions = np.arange(count, dtype=np.float32) * np.float32(1 / count)
        return np.searchsorted(borders, np.minimum(fractions, np.float32(1 - 1e-6)), side="right")
