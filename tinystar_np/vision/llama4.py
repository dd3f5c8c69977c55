"""Llama 4's images: cut into up to 16 tiles, and the whole once more as the last of them.

    picture ─┬→ resized, black on the right or below ─┬──┬──┐
             │                                        │1 │2 │   <|image_start|>
             │                                        ├──┼──┤   1 <|tile_x_separator|> 2 <|tile_y_separator|>
             │                                        │3 │4 │   3 <|tile_x_separator|> 4 <|tile_y_separator|>
             └→ resized to one tile, whatever its shape ──┴──┘   <|image|> the whole <|image_end|>

A canvas is chosen of all rectangles of at most 16 tiles: the smallest into which the picture fits without
being made smaller, or else the one in which it is made smaller by the least. What fits into one tile is only
that tile. Meta 2025; there is no paper, the source is Llama4ImageProcessor of transformers.

It resizes with torchvision, and here Pillow does, with the same filter: at most 6 % of an image's resized
bytes differ, by 1, or by up to 2 where ``resize_to_max_canvas`` enlarges it. All else is equal bit for bit.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import WHOLE, Boxes, cells, on_the_image, tile_cells
from tinystar_np.vision.settings import LARGEST_AREA, Edges, Settings
from tinystar_np.vision.steps import BILINEAR, HALF, MOST_VECTORS, image_processor
from tinystar_np.vision.transforms import Colours, Image, Size, padded, resized

BLACK = (0, 0, 0)
PROCESSOR = "Llama4ImageProcessor"

IMAGE, PATCH = "<|image|>", "<|patch|>"
START, END = "<|image_start|>", "<|image_end|>"
NEXT_TILE, NEXT_ROW = "<|tile_x_separator|>", "<|tile_y_separator|>"
TOKENS = {
    "image_token": IMAGE,
    "fake_image_token": IMAGE,
    "patch_token": PATCH,
    "start_of_image_token": START,
    "end_of_image_token": END,
    "tile_x_separator_token": NEXT_TILE,
    "tile_y_separator_token": NEXT_ROW,
}
"""Keys of processor_config.json. transformers writes these texts whatever the file says."""


@dataclass(frozen=True)
class Llama4Images:
    """How Llama 4's images are prepared, and what stands in the text for one.

    tile             the side of a tile, in pixels
    most_tiles       how many an image is cut into at most, the whole not counted
    is_enlarged      whether images are as large as a canvas lets them be: ``resize_to_max_canvas``
    resample         Pillow's number of the filter
    scale            what bytes are multiplied by; None leaves them
    mean, std        of each colour, after that; None, both of them, leaves the values
    tokens_per_tile  how many vectors the encoder makes of a tile
    mark             what stands for one image in a prompt
    image_token      the token that vectors take the place of
    """

    tile: int = 336
    most_tiles: int = 16
    is_enlarged: bool = False
    resample: int = BILINEAR
    scale: float | None = 1 / 255
    mean: Colours | None = HALF
    std: Colours | None = HALF
    tokens_per_tile: int = 144
    mark: str = IMAGE
    image_token: str = PATCH

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json, with processor_config.json's keys
        config    the whole config.json

        Raises ConfigError for values of a wrong type, and for such as would change the pixels in a way that
        is not known here.
        """
        file, model = Settings(settings), Settings(config, "config.json")
        image_processor(file, PROCESSOR, (PROCESSOR,))
        size = file.size("size", Edges(336, 336))
        if not size.height or size.height != size.width:
            raise file.wrong("size", "must have an equal height and width")
        if not file.flag("do_resize", True):
            raise file.wrong("do_resize", "must be true: tiles are of one size")
        most_tiles = file.whole("max_patches", 16)
        if most_tiles * size.height**2 > LARGEST_AREA:
            raise file.wrong("max_patches", f"makes more than {LARGEST_AREA} pixels of an image")
        tokens_per_tile = _tokens_per_tile(size.height, file, model)
        if (most_tiles + 1) * tokens_per_tile > MOST_VECTORS:
            raise file.wrong("max_patches", f"makes more than {MOST_VECTORS} tokens of an image")
        scale, mean, std = file.scaling(HALF, HALF)
        if scale is None and mean is not None:
            raise file.wrong("do_rescale", "must be true where do_normalize is")
        for key, token in TOKENS.items():
            if file.text(key, token) != token:
                raise file.wrong(key, f"must be {token}")
        return cls(
            tile=size.height,
            most_tiles=most_tiles,
            is_enlarged=file.flag("resize_to_max_canvas", False),
            resample=file.resample(BILINEAR),
            scale=scale,
            mean=mean,
            std=std,
            tokens_per_tile=tokens_per_tile,
        )

    def before(self, count: int) -> str:
        """Return what stands before a prompt that names no place for its images: their marks."""
        return self.mark * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → its tiles row by row, and after several the whole."""
        size = image.shape[0], image.shape[1]
        rows, columns = self.canvas(size)
        height, width = self.fitting(size, (rows, columns))
        inside = resized(image, (height, width), self.resample)
        below, right = rows * self.tile - height, columns * self.tile - width
        whole = padded(inside, (0, below), (0, right), BLACK)
        tiles = whole.reshape(rows, self.tile, columns, self.tile, 3).swapaxes(1, 2)
        tiles = tiles.reshape(-1, self.tile, self.tile, 3)  # (n, h, w, 3)
        if len(tiles) == 1:
            return Pixels(self._normalised(tiles), size)
        overview = resized(image, (self.tile, self.tile), self.resample)
        return Pixels(self._normalised(np.concatenate([tiles, overview[None]])), size, (rows, columns))

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens: each tile's, with what separates them, then the whole's."""
        tile = self.image_token * self.tokens_per_tile
        rows, columns = pixels.grid
        row = tile + (NEXT_TILE + tile) * (columns - 1) + NEXT_ROW
        return START + row * rows + IMAGE + tile + END

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4); NaN on what is black beside it."""
        rows, columns = self.canvas(pixels.size)
        height, width = self.fitting(pixels.size, (rows, columns))
        area = (0.0, 0.0, columns * self.tile / width, rows * self.tile / height)
        overview = [WHOLE] if len(pixels.tiles) > 1 else []
        return on_the_image(tile_cells([*cells(area, rows, columns), *overview], self.tokens_per_tile))

    def canvas(self, size: Size) -> Size:
        """Choose how many rows and columns of tiles an image is put on.

        size  the image's height and width

        Of those on which it need not be made smaller the one on which it is least enlarged (or most, with
        ``is_enlarged``); if it must be made smaller, as little as possible. Of equals the smallest.
        """
        scales = {grid: self._scale(grid, size) for grid in grids(self.most_tiles)}
        not_smaller = [scale for scale in scales.values() if scale >= 1]
        chosen = max(scales.values()) if self.is_enlarged or not not_smaller else min(not_smaller)
        return min((grid for grid, scale in scales.items() if scale == chosen), key=math.prod)

    def _scale(self, grid: Size, size: Size) -> np.float32:
        """Return by how much an image can be enlarged on a canvas, in single precision as in the source."""
        by_height, by_width = (
            np.float32(tiles * self.tile) / np.float32(edge) for tiles, edge in zip(grid, size, strict=True)
        )
        return min(by_height, by_width)

    def fitting(self, size: Size, grid: Size) -> Size:
        """Return the height and width that an image of this size gets on a canvas.

        An edge is not enlarged beyond one tile, unless ``is_enlarged``.
        """
        canvas = grid[0] * self.tile, grid[1] * self.tile
        if self.is_enlarged:
            limits, are_whole_canvas = canvas, (True, True)
        else:
            own = max(size[0], self.tile), max(size[1], self.tile)
            limits = min(own[0], canvas[0]), min(own[1], canvas[1])
            are_whole_canvas = canvas[0] < own[0], canvas[1] < own[1]
        return _largest_within(size, limits, are_whole_canvas)

    def _normalised(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale and centre the values, each step rounded to bfloat16: (n, h, w, 3) → (n, 3, h, w).

        The model learned from pixels made in bfloat16, and transformers makes them so.
        """
        values = np.arange(256, dtype=np.float32)
        if self.scale is not None:
            values = values * np.float32(self.scale)
        result = np.empty((tiles.shape[0], 3, *tiles.shape[1:3]), np.float32)
        for colour in range(3):
            table = values
            if self.mean is not None and self.std is not None:
                mean, std = (_rounded(np.float32(each[colour])) for each in (self.mean, self.std))
                table = _rounded(_rounded(_rounded(values) - mean) / std)
            result[:, colour] = table[tiles[..., colour]]
        return result


def grids(most: int) -> list[Size]:
    """Return all rows and columns of at most so many tiles."""
    return [(rows, columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1)]


def _largest_within(size: Size, limits: Size, are_single: tuple[bool, bool]) -> Size:
    """Return the largest height and width within limits, at least 1, of an image's shape.

    are_single  whether a limit's ratio to its edge is computed in single precision

    The source takes edges of a canvas from a tensor, and others as Python's numbers, which are double: where
    a product is about a whole number, this decides on which side of it the result falls.
    """
    ratios = [
        np.float32(limit) / np.float32(edge) if is_single else np.float64(limit) / edge
        for limit, edge, is_single in zip(limits, size, are_single, strict=True)
    ]
    by_height, by_width = (np.float32(r) for r in ratios) if any(are_single) else ratios
    if by_width < by_height:
        height, width = min(_whole(size[0], ratios[1]), limits[0]), limits[1]
    else:
        height, width = limits[0], min(_whole(size[1], ratios[0]), limits[1])
    return max(height, 1), max(width, 1)


def _whole(edge: int, ratio: np.floating) -> int:
    """Return the whole part of a product, in the ratio's precision."""
    return math.floor(ratio.dtype.type(edge) * ratio)


def _rounded(x: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Round to the nearest bfloat16."""
    return from_bfloat16(to_bfloat16(np.asarray(x)))


def _tokens_per_tile(side: int, file: Settings, model: Settings) -> int:
    """Return how many vectors the encoder makes of a tile: its patches, several of which become one."""
    vision = model.part("vision_config")
    patch, ratio = vision.whole("patch_size", 14), vision.number("pixel_shuffle_ratio", 0.5)
    file.same("patch_size", patch)
    if file.number("pixel_shuffle_ratio", ratio) != ratio:
        raise file.wrong("pixel_shuffle_ratio", f"is {ratio} to the encoder of config.json")
    if not 1 / side <= ratio <= 1:
        raise vision.wrong("pixel_shuffle_ratio", "must be a fraction, such as 0.5")
    tokens = (side // patch) ** 2 // round(1 / ratio**2)
    if not tokens:
        raise file.wrong("size", f"is too small for a token: patches have a side of {patch} pixels")
    return tokens
