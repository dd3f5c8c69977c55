"""Gemma 3 with images (Gemma Team 2025, arXiv:2503.19786): 256 vectors for any image.

    image (896 × 896) → encoder → 64 × 64 vectors → means of 4 × 4 → norm → W → 256 vectors of width D

| encoder               | projector                  | places                          | decoder     |
|-----------------------|----------------------------|---------------------------------|-------------|
| SigLIP So400m, frozen | means, RMSNorm, one matrix | 256 an image, crops on request  | Gemma 3     |

New in it: an image costs what a paragraph costs, whatever its size. All images are resized to one square, and
the vectors of 4 × 4 neighbours are averaged. Details that are lost in a long or large image come back by
pan-and-scan: crops of it follow as images of their own. The 256 tokens of an image see one another, the later
ones too, in layers with a window and without; the text sees them as it sees everything earlier. The decoder
is gemma3_text.py.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.average_pooling import average_pool
from tinystar_np.layers.basic import Linear, RMSNorm
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision.siglip_vision import SiglipVision, SiglipVisionConfig
from tinystar_np.models.vision_part import VisionPart, encoder_config, tile_by_tile
from tinystar_np.tap import scope, tap


@dataclass(frozen=True)
class Gemma3Config(Config):
    """The keys of a Gemma 3 config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    mm_tokens_per_image: int = key(256, least=1)
    image_token_index: int = key(262144, least=0, aliases=("image_token_id",))
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> SiglipVisionConfig:
        """The encoder's config."""
        return encoder_config(SiglipVisionConfig, self.vision_config, ("siglip_vision_model",))

    @property
    def pooled(self) -> int:
        """How many vectors along a side are averaged."""
        return self.vision.side // isqrt(self.mm_tokens_per_image)

    def check(self) -> None:
        """Refuse a number of vectors that squares of patches do not make."""
        super().check()
        side, factor = self.vision.side, self.pooled
        made = (side // factor) ** 2 if factor else 0
        require(
            made == self.mm_tokens_per_image,
            f"mm_tokens_per_image = {self.mm_tokens_per_image}, but the {side} × {side} patches of an image "
            f"make {made} means of {factor} × {factor}.",
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of the encoder."""
        return {**super().sizes, "S": self.vision.hidden_size}


WEIGHTS: WeightTable = {
    # ours:             the checkpoint's, its shape
    "norm.gain":        ("multi_modal_projector.mm_soft_emb_norm.weight", "S"),
    "projector.weight": ("multi_modal_projector.mm_input_projection_weight", "S D"),
}  # fmt: skip


class Gemma3(VisionPart[Gemma3Config]):
    """Gemma 3 4B, 12B and 27B: what reads their images."""

    Config = Gemma3Config
    WEIGHTS = WEIGHTS
    bidirectional = "image"
    encoder: SiglipVision

    @staticmethod
    def encoder_of(config: Gemma3Config) -> tuple[type[SiglipVision], SiglipVisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return SiglipVision, config.vision

    def build(self, w: Weights, c: Gemma3Config) -> None:
        """Build the norm and the projector."""
        self.image_token_id = c.image_token_index
        self.norm = RMSNorm(w / "norm", eps=c.vision.layer_norm_eps, offset=1.0)
        self.projector = Linear(w / "projector")

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image and its crops, one by one: (n, C, h, w) → (n · N, D)."""
        return tile_by_tile(self.of_tiles, pixels.tiles)

    def of_tiles(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode images (n, C, h, w): (n · N, D)."""
        with scope("encoder"):
            x = self.encoder(tiles)  # (n, h/p, w/p, S)
        x = tap("pooling", average_pool(x, self.config.pooled))
        x = tap("projector", self.projector(tap("projector_norm", self.norm(x))))
        return x.reshape(-1, x.shape[-1])
