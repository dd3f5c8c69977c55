"""LLaVA-NeXT's images: a small picture of the whole, and tiles of it at the resolution that suits its shape.

    picture ─┬→ resized to one tile, whatever its shape ─────────────────→ tile 0
             └→ fitted into the best of a list of resolutions, ┌──┬──┐
                black bars on two sides, cut into tiles ───────┤1 │2 ├──→ tiles 1 … n
                                                               └──┴──┘
The encoder's vectors of tiles 1 … n are laid out as the picture was; rows or columns of them that lie within
the bars are dropped, and a learned ``image_newline`` ends each row that is left. So the number of tokens
depends on the picture's shape. Liu et al. 2024, "LLaVA-NeXT"; first tried in arXiv:2310.03744.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.llava_next import bars
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import (
    NOWHERE,
    WHOLE,
    Area,
    Boxes,
    cells,
    cropped_area,
    in_shares_of,
    on_the_image,
    squares,
    within,
)
from tinystar_np.vision.settings import LARGEST_AREA, OPENAI_MEAN, OPENAI_STD, Edges, Settings
from tinystar_np.vision.steps import BICUBIC, by_shorter_edge, image_processor, repeated
from tinystar_np.vision.transforms import Colours, Image, Size, centre_cropped, normalised, padded, resized

PINPOINTS = "image_grid_pinpoints"
RESOLUTIONS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
MOST_RESOLUTIONS = 1000  # LLaVA-OneVision has 36
BLACK = (0, 0, 0)
PROCESSOR = "LlavaNextImageProcessor"


@dataclass(frozen=True)
class LlavaNextImages:
    """How LLaVA-NeXT's images are prepared, and what stands in the text for one.

    resolutions        (height, width) that a picture may be fitted into: ``image_grid_pinpoints``
    overview           height and width of tile 0 before it is treated as the others are
    tile               the side of the squares that the resolution is cut into
    resize             what each tile is resized to: (height, width), or its shorter side; None leaves it
    crop               height and width of the middle that is cut out of each tile; None leaves it
    resample           Pillow's number of the filter
    scale, mean, std   as of ``normalised``
    patch_size         the side of the encoder's patches, in pixels
    extra_vectors      how many vectors more than patches are kept of tile 0: 1 with a CLS token, else 0
    image_token        the token that vectors take the place of, and that stands for an image in a prompt
    """

    resolutions: tuple[Size, ...] = RESOLUTIONS
    overview: Size = (224, 224)
    tile: int = 224
    resize: Size | int | None = 224
    crop: Size | None = (224, 224)
    resample: int = BICUBIC
    scale: float | None = 1 / 255
    mean: Colours | None = OPENAI_MEAN
    std: Colours | None = OPENAI_STD
    patch_size: int = 14
    extra_vectors: int = 0
    image_token: str = "<image>"

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
        overview, resize = _overview_and_resize(file)
        tile, crop = _tile_and_crop(file, overview)
        scale, mean, std = file.scaling(OPENAI_MEAN, OPENAI_STD)
        images = cls(
            resolutions=_resolutions(file),
            overview=overview,
            tile=tile,
            resize=resize if file.flag("do_resize", True) else None,
            crop=crop,
            resample=file.resample(BICUBIC),
            scale=scale,
            mean=mean,
            std=std,
            patch_size=_patch_size(file, model),
            extra_vectors=_extra_vectors(file, model),
            image_token=file.text("image_token", "<image>"),
        )
        if model.values.get(PINPOINTS) is not None and _resolutions(model) != images.resolutions:
            raise file.wrong(PINPOINTS, "must be the same as in config.json")
        # The encoder lays vectors out as the tiles lay: there must be a whole number of them, of one size.
        if any(edge % tile for resolution in images.resolutions for edge in resolution):
            raise file.wrong(PINPOINTS, f"cannot be cut into tiles of {tile} pixels")
        if images.sides != {(tile, tile)}:
            raise file.wrong("crop_size", "is not the size that the tiles get")
        if tile < images.patch_size:
            raise file.wrong(
                "crop_size", f"is less than a patch, which has a side of {images.patch_size} pixels"
            )
        return images

    @property
    def sides(self) -> set[Size]:
        """Height and width of the prepared tiles, which must be one and the same."""
        squares = {self.overview, (self.tile, self.tile)}
        if self.crop is not None:
            return {self.crop}
        if isinstance(self.resize, int):
            return {by_shorter_edge(square, self.resize) for square in squares}
        return squares if self.resize is None else {self.resize}

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.image_token

    def before(self, count: int) -> str:
        """Return what stands before a prompt that names no place for its images: a line for each."""
        return f"{self.mark}\n" * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → tile 0, which shows the whole, and the tiles row by row."""
        size = _size(image)
        resolution = self.resolution(size)
        canvas = _fitted(image, resolution, self.resample)
        tiles = [resized(image, self.overview, self.resample), *_cut(canvas, self.tile)]
        prepared = [self._prepared(tile) for tile in tiles]
        rows, columns = (-(-edge // self.tile) for edge in resolution)
        return Pixels(np.stack(prepared), size, (rows, columns))

    def resolution(self, size: Size) -> Size:
        """Choose the resolution that shows most of an image, and of those the one with the least around it.

        size  the image's height and width
        """

        def shown_and_waste(resolution: Size) -> tuple[int, int]:
            scale = min(resolution[1] / size[1], resolution[0] / size[0])
            shown = min(int(size[1] * scale) * int(size[0] * scale), size[0] * size[1])
            return -shown, resolution[0] * resolution[1] - shown

        return min(self.resolutions, key=shown_and_waste)

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens: tile 0's patches, then the others' without the bars, with newlines."""
        height, width = pixels.tiles.shape[-2:]
        patches = (height // self.patch_size) * (width // self.patch_size)
        rows, columns = self._picture(pixels)
        above, left = bars((rows, columns), pixels.size)
        tokens = (rows - 2 * above) * (columns - 2 * left + 1)
        return repeated(self.image_token, patches + self.extra_vectors + tokens)

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4); NaN for newlines and CLIP's CLS token."""
        overview = on_the_image(self._patches(WHOLE, self.overview, pixels))
        if self.extra_vectors > 0:
            overview = np.concatenate([NOWHERE, overview])
        overview = overview[max(0, -self.extra_vectors) :]
        # The patches of all tiles as they lie on the canvas, from which the rows within the bars are dropped.
        tiles = (
            self._patches((left, top, right, bottom), (self.tile, self.tile), pixels)
            for left, top, right, bottom in cells(WHOLE, *pixels.grid)
        )
        rows, columns = (edge // self.patch_size for edge in pixels.tiles.shape[-2:])
        canvas = np.stack(list(tiles)).reshape(*pixels.grid, rows, columns, 4).swapaxes(1, 2)
        rows, columns = self._picture(pixels)
        above, left = bars((rows, columns), pixels.size)
        kept = canvas.reshape(rows, columns, 4)[above : rows - above, left : columns - left]
        found = on_the_image(in_shares_of(self._filled(pixels.size), kept.reshape(-1, 4)))
        newlines = np.broadcast_to(NOWHERE, (len(kept), 1, 4))
        with_newlines = np.concatenate([found.reshape(kept.shape), newlines], axis=1)
        return np.concatenate([overview, with_newlines.reshape(-1, 4)])

    def _picture(self, pixels: Pixels) -> Size:
        """Return how many rows and columns of patches all tiles have together, but tile 0."""
        height, width = pixels.tiles.shape[-2:]
        rows, columns = pixels.grid
        return height // self.patch_size * rows, width // self.patch_size * columns

    def _patches(self, area: Area, size: Size, pixels: Pixels) -> Boxes:
        """Say where the patches of a tile lie that has this area, and this size before it is prepared."""
        return squares(within(area, self._shown(size)), pixels.tiles.shape[-2:], self.patch_size)

    def _filled(self, size: Size) -> Area:
        """Say which part of its canvas an image of this size fills."""
        resolution = self.resolution(size)
        inside = _fitting(size, resolution)
        top, left = ((full - edge) // 2 for full, edge in zip(resolution, inside, strict=True))
        height, width = resolution
        return left / width, top / height, (left + inside[1]) / width, (top + inside[0]) / height

    def _shown(self, size: Size) -> Area:
        """Say what of a tile of this size is left when it is prepared, in shares of it."""
        if self.crop is None:
            return WHOLE
        if isinstance(self.resize, int):
            return cropped_area(by_shorter_edge(size, self.resize), self.crop)
        return cropped_area(size if self.resize is None else self.resize, self.crop)

    def _prepared(self, tile: Image) -> NDArray[np.float32]:
        """Resize, crop and normalise one tile: (h, w, 3) → (3, h, w)."""
        if isinstance(self.resize, int):
            tile = resized(tile, by_shorter_edge(_size(tile), self.resize), self.resample)
        elif self.resize is not None:
            tile = resized(tile, self.resize, self.resample)
        if self.crop is not None:
            tile = centre_cropped(tile, self.crop)
        return normalised(tile, self.scale, self.mean, self.std)


def _size(image: Image) -> Size:
    return image.shape[0], image.shape[1]


def _fitting(size: Size, resolution: Size) -> Size:
    """Return the largest height and width, of an image's shape, that fit into a resolution."""
    height, width = size
    by_height, by_width = resolution[0] / height, resolution[1] / width
    if by_width < by_height:
        return min(math.ceil(height * by_width), resolution[0]), resolution[1]
    return resolution[0], min(math.ceil(width * by_height), resolution[1])


def _fitted(image: Image, resolution: Size, resample: int) -> Image:
    """Resize an image to the largest that fits into a resolution, and fill up with black on two sides."""
    fitting = _fitting(_size(image), resolution)
    rows, columns = (resolution[axis] - fitting[axis] for axis in (0, 1))
    inside = resized(image, fitting, resample)
    return padded(inside, (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), BLACK)


def _cut(canvas: Image, side: int) -> list[Image]:
    """Cut an image into squares, row by row; the last of a row or column may be smaller."""
    height, width = _size(canvas)
    return [
        canvas[row : row + side, column : column + side]
        for row in range(0, height, side)
        for column in range(0, width, side)
    ]


def _overview_and_resize(file: Settings) -> tuple[Size, Size | int]:
    """Read ``size``: of the small picture of the whole, and what each tile is resized to."""
    size = file.size("size", Edges(shortest_edge=224), square=False)
    if size.height and size.width:
        return (size.height, size.width), (size.height, size.width)
    if size.shortest_edge and not size.longest_edge:
        return (size.shortest_edge, size.shortest_edge), size.shortest_edge
    raise file.wrong("size", "must have height and width, or shortest_edge alone")


def _tile_and_crop(file: Settings, overview: Size) -> tuple[int, Size | None]:
    """Read ``crop_size``: the side of the tiles that are cut, whether or not they are then cropped to it.

    Where it is null, they are as large as the small picture of the whole.
    """
    does_crop = file.flag("do_center_crop", True)
    if "crop_size" in file.values and file.values["crop_size"] is None and not does_crop:
        return overview[0], None
    crop = file.size("crop_size", Edges() if "crop_size" in file.values else Edges(224, 224))
    if not (crop.height and crop.width):
        raise file.wrong("crop_size", "must have height and width")
    return crop.height, (crop.height, crop.width) if does_crop else None


def _resolutions(settings: Settings) -> tuple[Size, ...]:
    """Read ``image_grid_pinpoints``: a list of [height, width]."""
    pairs = settings.values.get(PINPOINTS)
    if pairs is None:
        return RESOLUTIONS
    is_list = isinstance(pairs, list) and 1 <= len(pairs) <= MOST_RESOLUTIONS
    if not is_list or not all(map(_is_pair, pairs)):
        raise settings.wrong(
            PINPOINTS, f"must be a list of [height, width], of at most {LARGEST_AREA} pixels each"
        )
    return tuple((height, width) for height, width in pairs)


def _is_pair(pair: object) -> bool:
    """Say whether a JSON value is a height and a width whose product is bearable."""
    if not isinstance(pair, list) or [type(edge) for edge in pair] != [int, int]:
        return False
    height, width = pair
    return bool(min(pair) >= 1 and height * width <= LARGEST_AREA)


def _patch_size(file: Settings, model: Settings) -> int:
    """Return the side of the encoder's patches, which its config leaves out where it is the default."""
    vision = model.part("vision_config")
    is_siglip = vision.values.get("model_type") == "siglip_vision_model"
    patch_size = vision.whole("patch_size", 14 if not vision.values else 16 if is_siglip else 32)
    file.same("patch_size", patch_size)
    return patch_size


def _extra_vectors(file: Settings, model: Settings) -> int:
    """Say how many vectors more than patches are kept of a tile: CLIP's CLS token, if it is not dropped."""
    key, strategies = "vision_feature_select_strategy", ("default", "full")
    chosen = model.one_of(key, "default", strategies)
    if file.one_of(key, chosen, strategies) != chosen:
        raise file.wrong(key, f"is {chosen!r} in config.json")
    has_cls = model.part("vision_config").values.get("model_type", "clip_vision_model") == "clip_vision_model"
    # 0 is the default of the processor's class, and says nothing.
    if file.values.get("num_additional_image_tokens") != 0:
        file.same("num_additional_image_tokens", int(has_cls))
    return has_cls - (chosen == "default")
