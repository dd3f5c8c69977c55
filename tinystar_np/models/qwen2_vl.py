"""Qwen2-VL (Qwen Team 2024, arXiv:2409.12191): images of any size, and positions that know rows and columns.

    image (h × w) → encoder → h/14 × w/14 vectors → 2 × 2 merged → h/28 · w/28 vectors of width D

| encoder                     | projector                     | places      | decoder       |
|-----------------------------|-------------------------------|-------------|---------------|
| ViT, RoPE by row and column | merger of the encoder, an MLP | h/28 · w/28 | Qwen2, M-RoPE |

New in it: nothing is cut or padded to a size that the encoder was made for. An image is resized only so far
that its sides are multiples of 28, and takes as many places as it has squares of 28 × 28 pixels: 4 to 16384.
The decoder's rotations (qwen2_vl_text.py) tell its vectors apart by row and column, and the text goes on
after the larger side, not after the last place.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import SeenImage
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.vision.grid import grid_of
from tinystar_np.models.vision.pixels import ImageInput, Pixels
from tinystar_np.models.vision.qwen2_vl_vision import Qwen2VLVision, Qwen2VLVisionConfig
from tinystar_np.models.vision_part import VisionPart, encoder_config
from tinystar_np.tap import scope


@dataclass(frozen=True)
class Qwen2VLConfig(Config):
    """The keys of a Qwen2-VL config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    image_token_id: int = key(151655, least=0)
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> Qwen2VLVisionConfig:
        """The encoder's config."""
        return encoder_config(Qwen2VLVisionConfig, self.vision_config, ("qwen2_vl_vision", "qwen2_vl"))

    @property
    def side(self) -> int:
        """How many pixels of a side become one vector."""
        return self.vision.patch_size * self.vision.spatial_merge_size

    def check(self) -> None:
        """Refuse vectors that are not of the decoder's width."""
        super().check()
        width = self.vision.hidden_size
        require(
            width == self.text_width,
            f"vision_config.hidden_size = {width}, but the text part's hidden_size is {self.text_width}.",
        )


WEIGHTS: WeightTable = {}
"""The merger is among the encoder's."""


class Qwen2VL(VisionPart[Qwen2VLConfig]):
    """Qwen2-VL, 2B to 72B: what reads its images."""

    Config = Qwen2VLConfig
    WEIGHTS = WEIGHTS
    encoder: Qwen2VLVision

    @staticmethod
    def encoder_of(config: Qwen2VLConfig) -> tuple[type[Qwen2VLVision], Qwen2VLVisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return Qwen2VLVision, config.vision

    def build(self, w: Weights, c: Qwen2VLConfig) -> None:
        """Say which token stands for a vector; there is no projector but the merger."""
        self.image_token_id = c.image_token_id

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: (1, C, h, w) → (h/pm · w/pm, D)."""
        with scope("encoder"):
            x = self.encoder(pixels.tiles)  # (1, h/pm, w/pm, D)
        return x.reshape(-1, x.shape[-1])

    def seen(self, image: ImageInput) -> SeenImage:
        """Read one image, with the grid by which the decoder rotates its vectors.

        Raises InputError where it does not fit its places, or is no whole number of vectors.
        """
        grid = grid_of(image, self.config.side)
        return replace(super().seen(image), grid=grid)
