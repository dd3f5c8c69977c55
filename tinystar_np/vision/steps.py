"""The steps that most encoders' images go through: resize, cut out the middle, scale, normalise, pad.

Each may be left out, and preprocessor_config.json says with what numbers the others are done.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.vision.boxes import WHOLE, Area, cropped_area, within
from tinystar_np.vision.settings import PREPROCESSOR, Edges, Settings
from tinystar_np.vision.transforms import (
    Colours,
    Image,
    Size,
    centre_cropped,
    normalised,
    resized,
    resized_and_cropped,
)

BILINEAR, BICUBIC, LANCZOS = 2, 3, 1
"""Pillow's numbers of its filters."""

MOST_VECTORS = 100_000  # of an image or one of its tiles; published models make up to some thousand

HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation that make −1 … 1 of 0 … 1."""


@dataclass(frozen=True)
class Steps:
    """What is done to one image before an encoder sees it.

    resize  height and width, or the shorter edge, or both edges: then the shorter one, but no more than the
            longer; None leaves the size
    filter  Pillow's number
    crop    height and width of the middle that is kept; None keeps all
    scale   as of ``normalised``
    mean    as of ``normalised``
    std     as of ``normalised``
    pad     height and width up to which zeros are put below and to the right at the end; None for no padding
    """

    resize: Edges | None
    filter: int
    crop: Size | None
    scale: float | None
    mean: Colours | None
    std: Colours | None
    pad: Size | None = None

    @classmethod
    def read(cls, settings: Settings, default: Self, *, square: bool = False) -> Self:
        """Read the steps from a preprocessor_config.json.

        settings  its object
        default   the steps of transformers' image processor, for what the file does not say
        square    whether a size of one number is height and width; else it is the shorter edge

        Raises ConfigError for values that no image can be prepared with.
        """
        scale, mean, std = settings.scaling(default.mean or HALF, default.std or HALF)
        resize = None
        if settings.flag("do_resize", default.resize is not None):
            resize = settings.size("size", default.resize or Edges(), square=square)
            if resize.shortest_edge is None and resize.height is None:
                raise settings.wrong("size", "must have height and width, or shortest_edge")
        crop = pad = None
        if settings.flag("do_center_crop", default.crop is not None):
            crop = _height_and_width(settings, "crop_size", default.crop)
        # Without a size, the images of a batch are padded to the largest: nothing to be done for one.
        if settings.flag("do_pad", False) and settings.values.get("pad_size") is not None:
            pad = _height_and_width(settings, "pad_size", None)
        return cls(resize, settings.resample(default.filter), crop, scale, mean, std, pad)

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Prepare one image: (H, W, 3) → (3, h, w). Raises InputError if it is too thin, or too large."""
        if self.resize is not None and self.crop is not None:
            image = resized_and_cropped(
                image, self.resized_size((image.shape[0], image.shape[1])), self.crop, self.filter
            )
        elif self.resize is not None:
            image = resized(image, self.resized_size((image.shape[0], image.shape[1])), self.filter)
        elif self.crop is not None:
            image = centre_cropped(image, self.crop)
        values = normalised(image, self.scale, self.mean, self.std)
        if self.pad is None:
            return values
        below, right = (full - now for full, now in zip(self.pad, values.shape[1:], strict=True))
        if min(below, right) < 0:
            raise InputError(
                f"images: one is {values.shape[1]} × {values.shape[2]} pixels after it was resized; "
                f"{PREPROCESSOR} pads to {self.pad[0]} × {self.pad[1]}.\nGive a smaller one."
            )
        return np.pad(values, ((0, 0), (0, below), (0, right)))

    def area(self, size: Size) -> Area:
        """Say what of an image of this height and width is seen, in shares of it."""
        now, area = self.resized_size(size), WHOLE
        if self.crop is not None:
            now, area = self.crop, cropped_area(now, self.crop)
        if self.pad is not None:
            area = within(area, (0.0, 0.0, self.pad[1] / now[1], self.pad[0] / now[0]))
        return area

    def resized_size(self, size: Size) -> Size:
        """Say what height and width an image is resized to, before it is cropped."""
        height, width = size
        if self.resize is None:
            return height, width
        if self.resize.height is not None and self.resize.width is not None:
            return self.resize.height, self.resize.width
        assert self.resize.shortest_edge is not None
        if self.resize.longest_edge is None:
            return by_shorter_edge((height, width), self.resize.shortest_edge)
        return _within_edges((height, width), self.resize.shortest_edge, self.resize.longest_edge)


def image_processor(settings: Settings, default: str, known: tuple[str, ...]) -> str:
    """Return the name of transformers' image processor that a file asks for.

    default  its name where the file has none
    known    those that are done here

    "…Fast" does the same with another library, and "…FeatureExtractor" is what they were called in old files.
    Raises ConfigError for others.
    """
    key = "image_processor_type" if settings.values.get("image_processor_type") else "feature_extractor_type"
    name = settings.text(key, default).replace("FeatureExtractor", "ImageProcessor")
    name = name.removesuffix("Fast").removesuffix("Pil")
    if name not in known:
        raise ConfigError(
            f"{settings.file}: {key} = {shown(settings.values[key])} is not implemented for this model. "
            f"Known: {', '.join(known)}."
        )
    return name


def repeated(token: str, vectors: int) -> str:
    """Return a token as often as there are vectors. Raises InputError for more than a context holds."""
    if vectors > MOST_VECTORS:
        raise InputError(
            f"images: one would become {vectors} tokens, of which up to {MOST_VECTORS} are made.\n"
            "The patches of config.json are too small for the images of preprocessor_config.json."
        )
    return token * vectors


def _height_and_width(settings: Settings, key: str, default: Size | None) -> Size:
    """Read a size that must have both."""
    size = settings.size(key, Edges(*default) if default else Edges())
    if size.height is None or size.width is None:
        raise settings.wrong(key, "must have height and width")
    return size.height, size.width


def by_shorter_edge(size: Size, edge: int) -> Size:
    """Say how large an image is whose shorter edge becomes this one. The longer is rounded down."""
    height, width = size
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def _within_edges(size: Size, shorter: int, longer: int) -> Size:
    """Say how large an image is whose shorter edge becomes this one, unless its longer edge gets too long.

    Then the shorter edge is rounded to the nearest, and the longer is computed from what it was before.
    """
    height, width = size
    exact: float = shorter
    if max(size) / min(size) * shorter > longer:
        exact = longer * min(size) / max(size)
        shorter = round(exact)
    if min(size) == shorter:
        return size
    if width < height:
        return int(exact * height / width), shorter
    return shorter, int(exact * width / height)
