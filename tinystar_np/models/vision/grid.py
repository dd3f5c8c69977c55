"""The grid of an image's vectors, where a decoder rotates them by row and column."""

import numpy as np

from tinystar_np.errors import InputError
from tinystar_np.models.vision.pixels import ImageInput


def grid_of(image: ImageInput, side: int) -> tuple[int, int, int]:
    """Return (t, h, w) of the vectors that an encoder makes of an image.

    side  how many pixels of a side become one vector

    Raises InputError for an image that is no whole number of vectors, or stands in a text in parts.
    """
    n, _, height, width = image.pixels.tiles.shape
    rows, columns = height // side, width // side
    if n != 1 or min(rows, columns) == 0 or (height, width) != (rows * side, columns * side):
        raise InputError(
            f"An image has pixels of shape {image.pixels.tiles.shape}, but this model reads images whole, "
            f"(1, C, h, w) with h and w multiples of {side}."
        )
    if (np.diff(image.places) != 1).any():
        raise InputError(
            "An image has places apart from one another, but this model needs them side by side."
        )
    return 1, rows, columns
