"""What is done to an image before an encoder sees it: resized, cropped, padded, its values centred on 0.

Pure functions. An image is (H, W, 3) uint8 until ``normalised`` makes (3, H, W) float32 of it. Each equals
the one of transformers' image processors for PIL and NumPy bit for bit: models have learned from such pixels.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError
from tinystar_np.vision.pillow import require_pillow

Image = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width."""
Colours = tuple[float, float, float]
"""One number for each of red, green and blue."""

# A strip of 1 × 10 000 whose short side is to be 224 would fill the memory.
MOST_PIXELS = 100_000_000
AT_ONCE = 8_000_000  # pixels that may be made and then cut off


def resized(image: Image, size: Size, filter: int) -> Image:
    """Resize with antialiasing, as Pillow does it in whole numbers of a byte.

    image   (H, W, 3)
    size    the height and width it gets; -1 leaves one of them
    filter  Pillow's number: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming

    Returns (height, width, 3). Raises InputError if that is too large for the memory.
    """
    require_pillow()
    from PIL import Image as Pillow

    height, width = (old if new == -1 else new for old, new in zip(image.shape, size, strict=False))
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise InputError(
            f"images: one of {image.shape[0]} × {image.shape[1]} pixels would become {height} × {width}; "
            "its sides are too unequal.\nCrop it."
        )
    return np.array(Pillow.fromarray(image).resize((width, height), Pillow.Resampling(filter)))


def resized_and_cropped(image: Image, size: Size, crop: Size, filter: int) -> Image:
    """Resize, then cut out the middle, and of a strip make little more than that: the pixels are the same.

    A strip of 3 × 4000 whose short side becomes 336 would be one of 336 × 448 000, of which 336 × 336 stay.

    image   (H, W, 3)
    size    the height and width it is resized to
    crop    the height and width it gets then
    filter  as of ``resized``

    Returns (*crop, 3). Raises InputError as ``resized`` does.
    """
    if size[0] < image.shape[0] or not AT_ONCE < size[0] * size[1] < 3 * MOST_PIXELS:
        return centre_cropped(resized(image, size, filter), crop)
    # Pillow resizes along the rows, rounds to bytes, and then resizes along the columns (since Pillow 13 in
    # the other order where an image becomes much lower). So what is not kept can be left out on the way.
    result = np.zeros((*crop, image.shape[2]), image.dtype)
    (kept_rows, rows), (kept_columns, columns) = map(_overlap, size, crop)
    wide = resized(image, (-1, size[1]), filter)[:, kept_columns]
    at_once = max(1, AT_ONCE // size[0])
    for start in range(0, wide.shape[1], at_once):
        block = resized(wide[:, start : start + at_once], (size[0], -1), filter)[kept_rows]
        first = columns.start + start
        result[rows, first : first + block.shape[1]] = block
    return result


def centre_cropped(image: Image, size: Size) -> Image:
    """Cut out the middle; where the image is smaller, black is put around it.

    image  (H, W, 3)
    size   the height and width it gets

    Returns (height, width, 3).
    """
    result = np.zeros((*size, image.shape[2]), image.dtype)
    inner, outer = zip(*map(_overlap, image.shape[:2], size), strict=True)
    result[outer] = image[inner]
    return result


def _overlap(length: int, cropped: int) -> tuple[slice, slice]:
    """Say which part of an axis is kept, and where it lies afterwards."""
    if length >= cropped:
        start = (length - cropped) // 2
        return slice(start, start + cropped), slice(0, cropped)
    start = (cropped - length + 1) // 2  # of an odd border the larger part comes before, as in transformers
    return slice(0, length), slice(start, start + length)


def padded(image: Image, rows: tuple[int, int], columns: tuple[int, int], colour: tuple[int, ...]) -> Image:
    """Put a border around an image.

    image    (H, W, 3)
    rows     how many come above and below
    columns  how many come left and right
    colour   (3,) red, green and blue of the border

    Returns (above + H + below, left + W + right, 3).
    """
    height, width, channels = image.shape
    result = np.empty((sum(rows) + height, sum(columns) + width, channels), image.dtype)
    result[:] = colour
    result[rows[0] : rows[0] + height, columns[0] : columns[0] + width] = image
    return result


def normalised(
    image: Image, scale: float | None, mean: Colours | None, std: Colours | None
) -> NDArray[np.float32]:
    """Scale the values, and make the mean of the data 0 and its standard deviation 1.

        y = (x · scale − mean) / std

    image      (H, W, 3)
    scale      1/255 makes 0 … 1 of bytes; None leaves them
    mean, std  (3,) of each colour; None, both of them, leaves the values

    Returns (3, H, W).
    """
    # 256 values can stand in a byte, so each colour's are computed once, in transformers' order and types.
    values = np.arange(256, dtype=np.float64)
    scaled = (values if scale is None else values * scale).astype(np.float32)
    result = np.empty((3, *image.shape[:2]), np.float32)
    for colour in range(3):
        table = scaled
        if mean is not None and std is not None:
            table = (scaled - np.float32(mean[colour])) / np.float32(std[colour])
        np.take(table, image[..., colour], out=result[colour], mode="clip")
    return result
