"""Idefics 3's and SmolVLM's images: enlarged to whole tiles, each seen sharply, and then the whole at once.

    (H, W, 3) → longer side 1456 → sides rounded up to whole tiles of 364
                 ┌──┬──┬──┬──┐
                 │1 │2 │3 │4 │     12 tiles, row by row, then the whole
                 ├──┼──┼──┼──┤     resized to 364 × 364 once more
                 │5 │6 │7 │8 │
                 └──┴──┴──┴──┘ …   (x / 255 − ½) / ½

The tokens of a tile follow its row and column as text, <row_1_col_2>, and those of the whole <global-img>.
Laurençon et al. 2024, arXiv:2408.12637; Marafioti et al. 2025, SmolVLM, arXiv:2504.05299.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.errors import InputError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import WHOLE, Boxes, cells, tile_cells
from tinystar_np.vision.settings import Edges, Settings
from tinystar_np.vision.steps import HALF, LANCZOS, image_processor, repeated
from tinystar_np.vision.transforms import Colours, Image, Size, normalised, resized

SIZE = Edges(longest_edge=1456)
MOST_TILES = 1000  # real files ask for up to 144
LONGEST = 4096  # no image becomes larger than this, whatever the file asks for
PROCESSORS = ("Idefics3ImageProcessor", "SmolVLMImageProcessor")


@dataclass(frozen=True)
class Idefics3Images:
    """How Idefics 3's and SmolVLM's images are prepared, and what stands in the text for one.

    resize        height and width that an image gets first, or its longer edge; None leaves it
    tile          the side of the tiles
    is_split      whether images are cut into tiles; else each becomes one, whatever its shape
    filter        Pillow's number
    scale         as of ``normalised``
    mean          as of ``normalised``
    std           as of ``normalised``
    vectors       how many vectors the encoder makes of a tile
    image_token   the token that vectors take the place of, and that stands for an image in a prompt
    around_token  what stands before each tile, and at the end
    whole_token   what says that the whole image follows
    """

    resize: Edges | None = SIZE
    tile: int = 364
    is_split: bool = True
    filter: int = LANCZOS
    scale: float | None = 1 / 255
    mean: Colours | None = HALF
    std: Colours | None = HALF
    vectors: int = 169
    image_token: str = "<image>"
    around_token: str = "<fake_token_around_image>"
    whole_token: str = "<global-img>"

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json, with processor_config.json's keys and the
                  tokens that the tokenizer's files name
        config    the whole config.json

        ``do_pad`` fills up batches and changes nothing of one image.

        Raises ConfigError for values of a wrong type, and those that change the pixels in an unknown way.
        """
        file, model = Settings(settings), Settings(config, "config.json")
        image_processor(file, PROCESSORS[0], PROCESSORS)
        resize = file.size("size", SIZE, square=True)
        if resize.longest_edge is None and resize.height is None:
            raise file.wrong("size", "must have longest_edge, or height and width")
        tile = file.size("max_image_size", Edges(longest_edge=364)).longest_edge
        if tile is None:
            raise file.wrong("max_image_size", "must have longest_edge")
        scale, mean, std = file.scaling(HALF, HALF)
        vectors = 169
        if "vision_config" in config:
            patches = tile // model.part("vision_config").whole("patch_size", 32)
            factor = model.whole("scale_factor", 2)
            if patches % factor:
                raise file.wrong(
                    "max_image_size",
                    f"makes {patches} patches a side, which scale_factor = {factor} does not divide",
                )
            vectors = (patches // factor) ** 2
            file.same("image_seq_len", vectors)
        return cls(
            resize=resize if file.flag("do_resize", True) else None,
            tile=tile,
            is_split=file.flag("do_image_splitting", True),
            filter=file.resample(LANCZOS),
            scale=scale,
            mean=mean,
            std=std,
            vectors=file.whole("image_seq_len", vectors),
            image_token=file.text("image_token", "<image>"),
            around_token=file.text("fake_image_token", "<fake_token_around_image>"),
            whole_token=file.text("global_image_token", "<global-img>"),
        )

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.image_token

    def before(self, count: int) -> str:
        """Return what is put before a prompt that names no place for its images."""
        return self.mark * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → its tiles row by row and then the whole, or the whole alone."""
        size = (image.shape[0], image.shape[1])
        if self.resize is not None:
            image = resized(image, self._first_size(size), self.filter)
        grid = (0, 0)
        if self.is_split:
            image = resized(image, self._whole_tiles((image.shape[0], image.shape[1])), self.filter)
            rows, columns = image.shape[0] // self.tile, image.shape[1] // self.tile
            grid = (rows, columns) if rows * columns > 1 else (0, 0)
        side = self.tile
        tiles = [
            image[row * side : (row + 1) * side, column * side : (column + 1) * side]
            for row in range(grid[0])
            for column in range(grid[1])
        ]
        tiles.append(resized(image, (side, side), self.filter))
        return Pixels(
            np.stack([normalised(tile, self.scale, self.mean, self.std) for tile in tiles]), size, grid
        )

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens: each tile's with its row and column, then those of the whole."""
        tokens = repeated(self.image_token, self.vectors)
        rows, columns = pixels.grid
        lines = [
            "".join(
                f"{self.around_token}<row_{row}_col_{column}>{tokens}" for column in range(1, columns + 1)
            )
            for row in range(1, rows + 1)
        ]
        if lines:
            lines.append("")
        whole = f"{self.around_token}{self.whole_token}{tokens}{self.around_token}"
        return "\n".join([*lines, whole])

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4), those of the tiles and then of the whole."""
        return tile_cells([*cells(WHOLE, *pixels.grid), WHOLE], self.vectors)

    def _first_size(self, size: Size) -> Size:
        """Say what size an image gets first, with transformers' own rounding: to even, then down."""
        assert self.resize is not None
        if self.resize.longest_edge is None:
            assert self.resize.height is not None
            assert self.resize.width is not None
            return self.resize.height, self.resize.width
        ratio = size[1] / size[0]
        height, width = _with_longer_side(self.resize.longest_edge, ratio)
        height, width = (height + height % 2, width) if ratio >= 1 else (height, width + width % 2)
        height, width = max(height, 1), max(width, 1)
        if max(height, width) > LONGEST:
            height, width = _with_longer_side(LONGEST, width / height)
        return max(height, 1), max(width, 1)

    def _whole_tiles(self, size: Size) -> Size:
        """Round an image's sides up to whole tiles, the shorter one after it was scaled with the longer."""
        longer = math.ceil(max(size) / self.tile) * self.tile
        height, width = _with_longer_side(longer, size[1] / size[0])
        rows, columns = math.ceil(height / self.tile), math.ceil(width / self.tile)
        if rows * columns > MOST_TILES:
            raise InputError(
                f"images: one of {size[0]} × {size[1]} pixels would become {rows} × {columns} tiles; "
                f"up to {MOST_TILES} are made.\nMake it smaller."
            )
        return rows * self.tile, columns * self.tile


def _with_longer_side(longer: int, ratio: float) -> Size:
    """Return the height and width of an image whose longer side is this one, the other rounded down.

    ratio  of width to height
    """
    return (int(longer / ratio), longer) if ratio >= 1 else (longer, int(longer * ratio))
