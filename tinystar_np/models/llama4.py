"""Llama 4 Scout and Maverick (Meta 2025): tiles of one image among a text, read from the first layer on.

    tile (336 × 336) → encoder → 24 × 24 vectors → pixel shuffle (2) → 12 × 12 → W → GELU → W → GELU → W

| encoder                       | projector                    | places                      | decoder      |
|-------------------------------|------------------------------|-----------------------------|--------------|
| MetaCLIP, learned positions   | pixel shuffle and two layers | 144 a tile, tiles in rows,  | Llama 4 text |
| and 2-D rotations, patches of | in the encoder, then one     | then the whole once more    |              |
| 14                            | matrix                       |                             |              |

New in it, beside Llama 3.2: "early fusion". There an image was attended to from between the decoder's layers
(cross-attention), and the text model stayed as it was; here its vectors stand among those of the tokens, and
one decoder was trained on text, images and films together. Tokens around the tiles say where rows end.
Published in "The Llama 4 herd", April 2025.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, key
from tinystar_np.models.vision.llama4_vision import Llama4Vision, Llama4VisionConfig
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision_part import VisionPart, encoder_config, tile_by_tile
from tinystar_np.tap import scope, tap


@dataclass(frozen=True)
class Llama4Config(Config):
    """The keys of a Llama 4 config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    image_token_id: int = key(200092, least=0, aliases=("image_token_index",))
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> Llama4VisionConfig:
        """The encoder's config."""
        return encoder_config(Llama4VisionConfig, self.vision_config, ("llama4_vision_model",))

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, O of what the encoder returns."""
        return {**super().sizes, "O": self.vision.projector_output_dim}


WEIGHTS: WeightTable = {
    # ours:             the checkpoint's, its shape
    "projector.weight": ("multi_modal_projector.linear_1.weight", "(D O)ᵀ"),
}


class Llama4(VisionPart[Llama4Config]):
    """Llama 4 Scout and Maverick: what reads their images."""

    Config = Llama4Config
    WEIGHTS = WEIGHTS
    encoder: Llama4Vision

    @staticmethod
    def encoder_of(config: Llama4Config) -> tuple[type[Llama4Vision], Llama4VisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return Llama4Vision, config.vision

    def build(self, w: Weights, c: Llama4Config) -> None:
        """Build the projector."""
        self.image_token_id = c.image_token_id
        self.projector = Linear(w / "projector")

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image, tile by tile: (n, C, h, w) → (n · h/pf · w/pf, D)."""
        return tile_by_tile(self.of_tiles, pixels.tiles)

    def of_tiles(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode tiles (n, C, h, w): (n · h/pf · w/pf, D)."""
        with scope("encoder"):
            x = self.encoder(tiles)  # (n, h/pf, w/pf, O)
        x = tap("projector", self.projector(x))
        return x.reshape(-1, x.shape[-1])
