"""LLaVA-NeXT, or LLaVA 1.6 (Liu et al. 2024; first tried in arXiv:2310.03744): large images in tiles.

    whole, in one tile → encoder → W₁, GELU, W₂ ────────────────────────────────────────→ 576 vectors
    tiles, 336 × 336 each → the same → laid out as the image was, bars dropped, ⏎ at each row's end → more

| encoder               | projector            | places                          | decoder                |
|-----------------------|----------------------|---------------------------------|------------------------|
| CLIP ViT-L/14; SigLIP | two layers with GELU | 576 of the whole, 2352 of tiles | Mistral, Llama, Qwen 2 |

New in it, beside LLaVA 1.5: the encoder still reads one square, but an image is fitted into the best of a few
grids of such squares, so that small print stays legible, and once more as a whole. The tiles' vectors are
put together to one picture. Its rows or columns that show the black bars around the image are dropped, and a
learned vector stands at the end of each row: without it the decoder could not know how wide the image is.

Granite Vision (IBM 2025, arXiv:2502.09927) is the same with SigLIP, of which it reads four blocks, and a
Granite decoder, which multiplies the vectors of images as it does those of tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import FeedForward
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, known, require
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.models.vision.clip_vision import ClipVision
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision.siglip_vision import SiglipVision
from tinystar_np.models.vision_part import EncoderConfig, VisionPart, tile_by_tile, tower_config
from tinystar_np.tap import scope, tap

TOWERS: Mapping[str, type[VisionEncoder]] = {
    "clip_vision_model": ClipVision,
    "siglip_vision_model": SiglipVision,
}
"""The encoders that it was published with."""
CLIP_L_14_336: JsonObject = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
"""The encoder of a config.json that names none."""
SELECTED = {"default": "clip_vision_model", "full": "siglip_vision_model"}
"""Whether the encoder's first vector is left out or not, and whose vectors are then those of the patches."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class LlavaNextConfig(Config):
    """The keys of a LLaVA-NeXT config.json that concern images; defaults as in transformers.

    The grids of tiles, ``image_grid_pinpoints``, are the processor's (vision/llava_next.py).
    """

    text_width: int = key(1, letter="D")
    image_token_index: int = key(32000, least=0, aliases=("image_token_id",))
    vision_config: JsonObject | None = None
    vision_feature_layer: int | list[int] = -2
    vision_feature_select_strategy: str = key("default", known=SELECTED)
    projector_hidden_act: str = activation_key("gelu")
    multimodal_projector_bias: bool = True

    @property
    def tower(self) -> tuple[type[VisionEncoder], EncoderConfig]:
        """The encoder's class and config."""
        return tower_config(TOWERS, CLIP_L_14_336 if self.vision_config is None else self.vision_config)

    @property
    def layers(self) -> list[int]:
        """After how many of the encoder's blocks its vectors are taken; several are put side by side."""
        found = self.vision_feature_layer
        return [found] if isinstance(found, int) else found

    def check(self) -> None:
        """Refuse blocks that the encoder does not have, and vectors that make no picture."""
        blocks = self.tower[1].sizes["L"]
        require(
            self.layers != [] and all(-blocks <= number + 1 <= blocks + 1 for number in self.layers),
            f"vision_feature_layer = {self.vision_feature_layer}, but the encoder has {blocks} blocks.",
        )
        strategy = self.vision_feature_select_strategy
        known(SELECTED, "vision_feature_select_strategy", strategy)
        require(
            TOWERS[SELECTED[strategy]] is self.tower[0],
            f"vision_feature_select_strategy = {strategy!r}, but the vectors of the patches must be left, "
            "and no other: 'default' drops CLIP's class, and 'full' is for SigLIP, which has none.",
        )
        super().check()

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of the vectors that the projector reads."""
        return {**super().sizes, "S": self.tower[1].sizes["D"] * len(self.layers)}


WEIGHTS: WeightTable = {
    # ours:                  the checkpoint's, its shape, when it is there
    "projector.up.weight":   ("multi_modal_projector.linear_1.weight", "(D S)ᵀ"),
    "projector.up.bias":     ("multi_modal_projector.linear_1.bias", "D", "multimodal_projector_bias"),
    "projector.down.weight": ("multi_modal_projector.linear_2.weight", "(D D)ᵀ"),
    "projector.down.bias":   ("multi_modal_projector.linear_2.bias", "D", "multimodal_projector_bias"),
    "row_end":               ("image_newline", "D"),
}  # fmt: skip


class LlavaNext(VisionPart[LlavaNextConfig]):
    """LLaVA 1.6 of every size, and Granite Vision: what reads their images."""

    Config = LlavaNextConfig
    WEIGHTS = WEIGHTS

    @staticmethod
    def encoder_of(config: LlavaNextConfig) -> tuple[type[VisionEncoder], EncoderConfig]:
        """Return the class of the encoder, and its checked config."""
        return config.tower

    def build(self, w: Weights, c: LlavaNextConfig) -> None:
        """Build the projector, and the vector at the end of a row."""
        self.image_token_id = c.image_token_index
        self.projector = FeedForward(w / "projector", ACTIVATIONS[c.projector_hidden_act])
        self.row_end: NDArray = w["row_end"]

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: the whole in tile 0, then its tiles row by row, (n, C, h, w) → (N, D)."""
        rows, columns = pixels.grid
        if rows < 1 or len(pixels.tiles) != 1 + rows * columns:
            raise InputError(
                f"An image has {len(pixels.tiles)} tiles, but one of the whole and {rows} × {columns} of its "
                "parts are read. Prepare it by the model's own processor."
            )
        x = tile_by_tile(self.of_tiles, pixels.tiles)  # (n, side², D)
        picture = tap("picture", joined(x[1:], rows, columns))
        height, width, _ = picture.shape
        above, left = bars((height, width), pixels.size)
        picture = picture[above : height - above, left : width - left]
        ends = np.broadcast_to(self.row_end, (len(picture), 1, x.shape[-1]))
        parts = np.concatenate([picture, ends], axis=1)  # (lines, length + 1, D)
        return np.concatenate([x[0], parts.reshape(-1, x.shape[-1])])

    def of_tiles(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode tiles (n, C, h, w): the vectors of their patches (n, side², D)."""
        with scope("encoder"):
            streams = self.encoder.hidden_states(tiles, self.config.layers)  # (n, N, D of the encoder)
        x = np.concatenate(streams, axis=-1)
        if self.config.vision_feature_select_strategy == "default":
            x = x[:, 1:]  # the class
        x = tap("selected", x)
        with scope("projector"):
            return self.projector(x)


def joined(tiles: NDArray, rows: int, columns: int) -> NDArray:
    """Lay the vectors of tiles out as the tiles lie: (rows · columns, side², D) → (height, width, D)."""
    side, D = round(tiles.shape[1] ** 0.5), tiles.shape[-1]
    by_tile = tiles.reshape(rows, columns, side, side, D).swapaxes(1, 2)
    return by_tile.reshape(rows * side, columns * side, D)


def bars(patches: Size, size: Size) -> Size:
    """Say how many rows of patches above and below, and columns left and right, show nothing but a bar.

    patches  rows and columns of all tiles together, in whose middle the image lies
    size     of the image in pixels

    As many are dropped on either side; a row half in a bar stays.
    """
    rows, columns = patches
    height, width = size
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2
