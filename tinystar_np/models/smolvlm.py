"""SmolVLM (Marafioti et al. 2025, arXiv:2504.05299): images on small machines, 256 M to 2.2 B parameters.

    tile (512 × 512) → encoder → 32 × 32 vectors → pixel shuffle (4) → 8 × 8 → W → 64 vectors of width D

| encoder                   | projector                   | places                       | decoder         |
|---------------------------|-----------------------------|------------------------------|-----------------|
| SigLIP, NaViT's positions | pixel shuffle, one matrix   | 64 a tile, tiles in rows     | Llama (SmolLM2) |

New in it: few tokens for an image. A pixel shuffle puts the vectors of 4 × 4 neighbouring patches into
one, so that the 1024 patches of a tile take 64 places. A larger image is cut into tiles of 512 × 512,
read one by one, and the whole follows as one more tile: details from the first, the overview from the
last. The decoder is SmolLM2.
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
class SmolVLMConfig(Config):
    """The keys of a SmolVLM config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    scale_factor: int = key(2, least=1)
    image_token_id: int = key(128257, least=0, aliases=("image_token_index",))
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> Idefics3VisionConfig:
        """The encoder's config."""
        return encoder_config(Idefics3VisionConfig, self.vision_config, ("smolvlm_vision", "idefics3_vision"))

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


class SmolVLM(VisionPart[SmolVLMConfig]):
    """SmolVLM 256M, 500M and 2.2B, SmolVLM2: what reads their images."""

    Config = SmolVLMConfig
    WEIGHTS = WEIGHTS
    encoder: Idefics3Vision

    @staticmethod
    def encoder_of(config: SmolVLMConfig) -> tuple[type[Idefics3Vision], Idefics3VisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return Idefics3Vision, config.vision

    def build(self, w: Weights, c: SmolVLMConfig) -> None:
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
