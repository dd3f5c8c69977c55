"""The images of Qwen2-VL, 2.5-VL and 3-VL: at their own shape, with a number of pixels between two limits.

Both edges are rounded to multiples of what one token stands for: 2 × 2 patches of 14 × 14 pixels (Qwen3-VL:
16 × 16), which the encoder merges. Where their product is then too large or too small, both are scaled by the
square root of the factor by which it is. To the encoder an image is a film of two equal frames; it makes them
and the patches itself. Wang et al. 2024, arXiv:2409.12191.
"""

import math
from dataclasses import dataclass
from typing import Self

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.errors import InputError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import WHOLE, Boxes, squares
from tinystar_np.vision.settings import LARGEST_AREA, OPENAI_MEAN, OPENAI_STD, Settings
from tinystar_np.vision.steps import BICUBIC, image_processor, repeated
from tinystar_np.vision.transforms import Colours, Image, Size, normalised, resized

LEAST, MOST = 56 * 56, 28 * 28 * 1280  # pixels, where the file does not say
MOST_UNEQUAL = 200  # times the shorter edge

# The second is the same under the name that it had in the first files of Qwen2.5-VL.
PROCESSORS = ("Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor")
PATCH_SIZES = {"qwen3_vl": 16, "qwen3_vl_moe": 16}
"""Where config.json has no patch_size; 14 in the others."""


@dataclass(frozen=True)
class Qwen2VLImages:
    """How Qwen-VL's images are prepared, and what stands in the text for one.

    least, most        pixels of the resized image; None, both of them, leaves the image at its size
    resample           Pillow's number of the filter
    scale, mean, std   as of ``normalised``
    square             the side in pixels of what one token stands for: the patches that are merged
    image_token        the token that vectors take the place of, and that stands for an image in a prompt
    start, end         the tokens around it that a prompt has
    """

    least: int | None = LEAST
    most: int | None = MOST
    resample: int = BICUBIC
    scale: float | None = 1 / 255
    mean: Colours | None = OPENAI_MEAN
    std: Colours | None = OPENAI_STD
    square: int = 28
    image_token: str = "<|image_pad|>"
    start: str = "<|vision_start|>"
    end: str = "<|vision_end|>"

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json, with processor_config.json's keys
        config    the whole config.json

        Raises ConfigError for values of a wrong type, and for such as would change the pixels in a way that
        is not known here.
        """
        file, model = Settings(settings), Settings(config, "config.json")
        image_processor(file, PROCESSORS[0], PROCESSORS)
        scale, mean, std = file.scaling(OPENAI_MEAN, OPENAI_STD)
        least, most = _limits(file)
        does_resize = file.flag("do_resize", True)
        return cls(
            least=least if does_resize else None,
            most=most if does_resize else None,
            resample=file.resample(BICUBIC),
            scale=scale,
            mean=mean,
            std=std,
            square=_square(file, model),
            image_token=file.text("image_token", "<|image_pad|>"),
            start=file.text("vision_start_token", "<|vision_start|>"),
            end=file.text("vision_end_token", "<|vision_end|>"),
        )

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.image_token

    def before(self, count: int) -> str:
        """Return what stands before a prompt that names no place for its images: their marks, enclosed."""
        return (self.start + self.mark + self.end) * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → one picture, both edges multiples of ``square``.

        Raises InputError for an image whose edges are too unequal, or cannot be left as they are.
        """
        size = image.shape[0], image.shape[1]
        if self.least is not None and self.most is not None:
            image = resized(image, self.fitting(size, self.least, self.most), self.resample)
        elif size[0] % self.square or size[1] % self.square:
            raise InputError(
                f"images: one of {size[0]} × {size[1]} pixels has edges that are no multiples of "
                f"{self.square}, and this model's files say do_resize = false.\nResize it."
            )
        return Pixels(normalised(image, self.scale, self.mean, self.std)[None], size)

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens, one for each square of merged patches."""
        height, width = pixels.tiles.shape[-2:]
        return repeated(self.image_token, (height // self.square) * (width // self.square))

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4)."""
        return squares(WHOLE, pixels.tiles.shape[-2:], self.square)

    def fitting(self, size: Size, least: int, most: int) -> Size:
        """Return the height and width that an image gets.

        Raises InputError where its edges are too unequal.
        """
        height, width = size
        if max(size) / min(size) > MOST_UNEQUAL:
            raise InputError(
                f"images: one of {height} × {width} pixels has one edge more than {MOST_UNEQUAL} times the "
                "other, for which this model was not made.\nCrop it."
            )
        side = self.square
        rows, columns = round(height / side), round(width / side)
        if rows * columns * side**2 > most:
            factor = math.sqrt(height * width / most)
            rows, columns = (max(1, math.floor(edge / factor / side)) for edge in size)
        elif rows * columns * side**2 < least:
            factor = math.sqrt(least / (height * width))
            rows, columns = (math.ceil(edge * factor / side) for edge in size)
        return rows * side, columns * side


def _limits(file: Settings) -> tuple[int, int]:
    """Read how many pixels an image has at least and at most.

    Within ``size`` they are called shortest_edge and longest_edge, though they are areas; older files have
    min_pixels and max_pixels, within ``size`` or beside it, where they count more.
    """
    size = file.part("size")
    if set(size.values) - {"shortest_edge", "longest_edge", "min_pixels", "max_pixels"}:
        raise file.wrong("size", "must have shortest_edge and longest_edge, which are numbers of pixels")
    least, most = (0, 0) if size.values else (LEAST, MOST)
    for where, low, high in (
        (size, "min_pixels", "max_pixels"),
        (size, "shortest_edge", "longest_edge"),
        (file, "min_pixels", "max_pixels"),
    ):
        least = where.whole(low, least, most=LARGEST_AREA)
        most = where.whole(high, most, most=LARGEST_AREA)
    if not (least and most):
        raise file.wrong("size", "must have shortest_edge and longest_edge")
    return least, most


def _square(file: Settings, model: Settings) -> int:
    """Return the side in pixels of what one token stands for."""
    vision = model.part("vision_config")
    patch = vision.whole("patch_size", PATCH_SIZES.get(str(model.values.get("model_type")), 14))
    merged = vision.whole("spatial_merge_size", 2)
    file.same("patch_size", patch)
    file.same("merge_size", merged)
    file.same("temporal_patch_size", vision.whole("temporal_patch_size", 2))
    return patch * merged
