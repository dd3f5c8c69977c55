"""Idefics3 (Laurençon et al. 2024, arXiv:2408.12637): an image in tiles, a tile in 169 vectors.

    tile (364 × 364) → encoder → 26 × 26 vectors → pixel shuffle (2) → 13 × 13 → W → 169 vectors of width D

| encoder                   | projector                   | places                       | decoder   |
|---------------------------|-----------------------------|------------------------------|-----------|
| SigLIP, NaViT's positions | pixel shuffle, one matrix   | 169 a tile, tiles in rows    | Llama 3.1 |

New in it, beside Idefics2: the vectors of an image are no longer what a second attention makes of them (a
perceiver resampler), which lost the detail that reading documents needs. The pixel shuffle of InternVL
(Chen et al. 2024, arXiv:2404.16821) keeps every number: the vectors of 2 × 2 neighbouring patches become
one of four times the width, and one matrix maps it to the decoder's. Tokens for rows and columns say
where in the image each tile lies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.pixel_shuffle import pixel_shuffle
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.vision.idefics3_vision import Idefics3Vision, Idefics3VisionConfig
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision_part import VisionPart, encoder_config, tile_by_tile
from tinystar_np.tap import scope, tap


@dataclass(frozen=True)
class Idefics3Config(Config):
    """The keys of an Idefics3 config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    scale_factor: int = key(2, least=1)
    image_token_id: int = key(128257, least=0, aliases=("image_token_index",))
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> Idefics3VisionConfig:
        """The encoder's config."""
        return encoder_config(Idefics3VisionConfig, self.vision_config, ("idefics3_vision", "idefics3"))

    def check(self) -> None:
        """Refuse patches that cannot be put together."""
        super().check()
        side, factor = self.vision.side, self.scale_factor
        require(
            side % factor == 0,
            f"scale_factor = {factor} does not divide the {side} patches of a side, image_size / patch_size.",
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of what the pixel shuffle puts together."""
        return {**super().sizes, "S": self.vision.hidden_size * self.scale_factor**2}


WEIGHTS: WeightTable = {
    # ours:             the checkpoint's, its shape
    "projector.weight": ("connector.modality_projection.proj.weight", "(D S)ᵀ"),
}


class Idefics3(VisionPart[Idefics3Config]):
    """Idefics3 8B: what reads its images."""

    Config = Idefics3Config
    WEIGHTS = WEIGHTS
    encoder: Idefics3Vision

    @staticmethod
    def encoder_of(config: Idefics3Config) -> tuple[type[Idefics3Vision], Idefics3VisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return Idefics3Vision, config.vision

    def build(self, w: Weights, c: Idefics3Config) -> None:
        """Build the projector."""
        self.image_token_id = c.image_token_id
        self.projector = Linear(w / "projector")

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image, tile by tile: (n, C, h, w) → (n · h/pf · w/pf, D)."""
        return tile_by_tile(self.of_tiles, pixels.tiles)

    def of_tiles(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode tiles (n, C, h, w): (n · h/pf · w/pf, D)."""
        with scope("encoder"):
            x = self.encoder(tiles)  # (n, h/p, w/p, D of the encoder)
        x = tap("pixel_shuffle", pixel_shuffle(x, self.config.scale_factor))
        x = tap("projector", self.projector(x))
        return x.reshape(-1, x.shape[-1])
