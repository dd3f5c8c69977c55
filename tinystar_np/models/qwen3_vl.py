"""Qwen3-VL (Qwen Team 2025, arXiv:2511.21631): images read at several depths.

    image (h × w) → encoder → h/16 × w/16 vectors → 2 × 2 merged → h/32 · w/32 vectors of width D
                       └→ after early blocks, merged → as many vectors for each of the decoder's first blocks

| encoder                                | projector               | places      | decoder                  |
|----------------------------------------|-------------------------|-------------|--------------------------|
| SigLIP 2, RoPE by row and column added | mergers of the encoder  | h/32 · w/32 | Qwen3, M-RoPE, DeepStack |

New in it, beside Qwen2.5-VL (qwen2_5_vl.py): the encoder is SigLIP 2 once more, without windows, and the
decoder also reads what it knows at lower depths (qwen3_vl_text.py). A vector stands for 32 × 32 pixels.
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
from tinystar_np.models.vision.qwen3_vl_vision import Qwen3VLVision, Qwen3VLVisionConfig
from tinystar_np.models.vision_part import VisionPart, encoder_config
from tinystar_np.tap import scope, tap


@dataclass(frozen=True)
class Qwen3VLConfig(Config):
    """The keys of a Qwen3-VL config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    image_token_id: int = key(151655, least=0)
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> Qwen3VLVisionConfig:
        """The encoder's config."""
        return encoder_config(Qwen3VLVisionConfig, self.vision_config, ("qwen3_vl_vision", "qwen3_vl"))

    @property
    def side(self) -> int:
        """How many pixels of a side become one vector."""
        return self.vision.patch_size * self.vision.spatial_merge_size

    def check(self) -> None:
        """Refuse vectors that are not of the decoder's width."""
        super().check()
        width = self.vision.out_hidden_size
        require(
            width == self.text_width,
            f"vision_config.out_hidden_size = {width}, but the text part's hidden_size is {self.text_width}.",
        )


WEIGHTS: WeightTable = {}
"""The mergers are among the encoder's."""


class Qwen3VL(VisionPart[Qwen3VLConfig]):
    """Qwen3-VL, 2B to 32B, dense: what reads its images."""

    Config = Qwen3VLConfig
    WEIGHTS = WEIGHTS
    encoder: Qwen3VLVision

    @staticmethod
    def encoder_of(config: Qwen3VLConfig) -> tuple[type[Qwen3VLVision], Qwen3VLVisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return Qwen3VLVision, config.vision

    def build(self, w: Weights, c: Qwen3VLConfig) -> None:
        """Say which token stands for a vector; there is no projector but the mergers."""
        self.image_token_id = c.image_token_id

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: (1, C, h, w) → (h/pm · w/pm, D)."""
        return self.vectors_at_depths(pixels)[0]

    def vectors_at_depths(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Encode one image: its N vectors (N, D), and the further ones for the first M blocks (M, N, D)."""
        with scope("encoder"):
            vectors, deep = self.encoder(pixels.tiles)  # (1, h/pm, w/pm, D), (M, 1, h/pm, w/pm, D)
        vectors = vectors.reshape(-1, vectors.shape[-1])
        return vectors, deep.reshape(-1, *vectors.shape)

    def seen(self, image: ImageInput) -> SeenImage:
        """Read one image, with the grid by which the decoder rotates its vectors, and the further vectors.

        Raises InputError where it does not fit its places, or is no whole number of vectors.
        """
        grid = grid_of(image, self.config.side)
        vectors, deep = self.vectors_at_depths(image.pixels)
        found = self.placed(image, tap("vectors", vectors))
        return replace(found, grid=grid, deep=tap("vectors.deep", deep))
