"""An image as a vision encoder takes it, and a prompt with images as a model does."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pixels(NamedTuple):
    """The normalised pixels of one image.

    tiles  (n, C, h, w) the parts that it was cut into; (1, C, h, w) where it was not
    size   height and width of the image before it was resized
    grid   rows and columns of tiles; (0, 0) where it was not cut
    """

    tiles: NDArray[np.float32]
    size: tuple[int, int]
    grid: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class ImageInput:
    """An image in a prompt, not yet read: its pixels, and its places among the tokens.

    pixels  the normalised pixels
    places  (N,) ascending positions in the text, one for each vector that the model makes of it
    """

    pixels: Pixels
    places: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt as a model reads it: ``model(prompt.ids, images=prompt.images)``.

    ids     the tokens
    images  its images, in the order of their places
    """

    ids: list[int]
    images: tuple[ImageInput, ...] = ()
