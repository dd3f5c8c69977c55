"""Pixtral's and Mistral Small 3's images: at their own size and shape, a token a patch, a token to end a row.

    [IMG] [IMG] … [IMG] [IMG_BREAK]
    [IMG] [IMG] … [IMG] [IMG_BREAK]
    [IMG] [IMG] … [IMG] [IMG_END]

A picture is made smaller only where an edge is longer than the limit, and is then stretched to whole patches.
In Mistral Small 3 the encoder merges 2 × 2 patches into one vector; one token is then such a square.
Agrawal et al. 2024, arXiv:2410.07073.
"""

import math
from dataclasses import dataclass
from typing import Self

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.errors import InputError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import WHOLE, Boxes, cropped_area, on_the_image, squares
from tinystar_np.vision.settings import OPENAI_MEAN, OPENAI_STD, Edges, Settings
from tinystar_np.vision.steps import BICUBIC, image_processor, repeated
from tinystar_np.vision.transforms import Colours, Image, Size, centre_cropped, normalised, resized

PROCESSOR = "PixtralImageProcessor"


@dataclass(frozen=True)
class PixtralImages:
    """How Pixtral's images are prepared, and what stands in the text for one.

    limit              the largest height and width; None leaves the image at its size
    crop               height and width of the middle that is then cut out; None leaves it
    resample           Pillow's number of the filter
    scale, mean, std   as of ``normalised``
    square             the side in pixels of what one token stands for: a patch, or those that are merged
    image_token        the token that vectors take the place of, and that stands for an image in a prompt
    break_token        what ends a row of them
    end_token          what ends the last
    """

    limit: Size | None = (1024, 1024)
    crop: Size | None = None
    resample: int = BICUBIC
    scale: float | None = 1 / 255
    mean: Colours | None = OPENAI_MEAN
    std: Colours | None = OPENAI_STD
    square: int = 16
    image_token: str = "[IMG]"
    break_token: str = "[IMG_BREAK]"
    end_token: str = "[IMG_END]"

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
        size = file.size("size", Edges(longest_edge=1024))
        crop = file.size("crop_size", Edges())
        does_crop = file.flag("do_center_crop", False)
        if size.shortest_edge:
            raise file.wrong("size", "must have longest_edge alone, or height and width")
        if does_crop and not (crop.height and crop.width):
            raise file.wrong("crop_size", "must have height and width, as do_center_crop is true")
        limit = (size.height or size.longest_edge or 0, size.width or size.longest_edge or 0)
        scale, mean, std = file.scaling(OPENAI_MEAN, OPENAI_STD)
        return cls(
            limit=limit if file.flag("do_resize", True) else None,
            crop=(crop.height or 0, crop.width or 0) if does_crop else None,
            resample=file.resample(BICUBIC),
            scale=scale,
            mean=mean,
            std=std,
            square=_square(file, model),
            image_token=file.text("image_token", "[IMG]"),
            break_token=file.text("image_break_token", "[IMG_BREAK]"),
            end_token=file.text("image_end_token", "[IMG_END]"),
        )

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.image_token

    def before(self, count: int) -> str:
        """Return what stands before a prompt that names no place for its images: their marks."""
        return self.mark * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → one picture, about as large.

        Raises InputError for an image so narrow that nothing would be left of it.
        """
        size = image.shape[0], image.shape[1]
        if self.limit is not None:
            image = resized(image, self.fitting(size, self.limit), self.resample)
        if self.crop is not None:
            image = centre_cropped(image, self.crop)
        height, width = image.shape[0], image.shape[1]
        if min(height, width) < self.square:
            raise InputError(
                f"images: one of {size[0]} × {size[1]} pixels becomes {height} × {width}, but a token stands "
                f"for {self.square} × {self.square}.\nGive a larger image."
            )
        return Pixels(normalised(image, self.scale, self.mean, self.std)[None], size)

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens, row by row."""
        rows, columns = (edge // self.square for edge in pixels.tiles.shape[-2:])
        tokens = repeated(self.image_token, rows * columns)
        row = tokens[: len(tokens) // rows]
        return (row + self.break_token) * (rows - 1) + row + self.end_token

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4)."""
        area = WHOLE
        if self.crop is not None:
            size = pixels.size if self.limit is None else self.fitting(pixels.size, self.limit)
            area = cropped_area(size, self.crop)
        return on_the_image(squares(area, pixels.tiles.shape[-2:], self.square))

    def fitting(self, size: Size, limit: Size) -> Size:
        """Return the height and width in whole squares of an image within the limit.

        Raises InputError where an image is so narrow that within the limit it has no height or no width.
        """
        ratio = max(size[0] / limit[0], size[1] / limit[1])
        if ratio > 1:
            height, width = (math.floor(edge / ratio) for edge in size)
        else:
            height, width = size
        if not (height and width):
            raise InputError(
                f"images: one of {size[0]} × {size[1]} pixels becomes {height} × {width} when it is made "
                f"to fit into {limit[0]} × {limit[1]}.\nCrop it."
            )
        return -(-height // self.square) * self.square, -(-width // self.square) * self.square


def _square(file: Settings, model: Settings) -> int:
    """Return the side in pixels of what one token stands for."""
    vision = model.part("vision_config")
    is_mistral3 = model.values.get("model_type") == "mistral3"
    # Without a vision_config Mistral 3 has another default than the encoder by itself.
    patch = vision.whole("patch_size", 14 if is_mistral3 and not vision.values else 16)
    merged = model.whole("spatial_merge_size", 2) if is_mistral3 else 1
    # Files of models with other numbers have 16 and 1, the processor class's defaults: they say nothing.
    # An object, {"height", "width"}, is the image processor's own, which the processor passes over.
    given = file.values.get("patch_size")
    if given != 16 and not isinstance(given, dict):
        file.same("patch_size", patch)
    if file.values.get("spatial_merge_size") != 1:
        file.same("spatial_merge_size", merged)
    return patch * merged
