"""Arrays that a caller gives as an image → (H, W, 3) uint8."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError

WHITE = 255
CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha


def rgb_from_array(array: NDArray, name: str = "images: an array") -> NDArray[np.uint8]:
    """Return an image that is given as an array as its red, green and blue.

    array  (H, W) grey, (H, W, C) or (C, H, W) with C = 1, 3 or 4: grey, RGB, or RGB and alpha, put before
           white. Whole numbers from 0 to 255, or floats from 0 to 1. Where both ends of the shape could
           be the channels, a last axis of 3 is them, which is an image's usual form; transformers takes the
           first axis.
    name   what to call it in an error

    Returns (H, W, 3) uint8. Raises InputError for other shapes, types and values.
    """
    image = _as_bytes(_channels_last(array, name), name)
    if image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    if image.shape[-1] == 4:
        alpha = image[..., 3:] / WHITE
        return np.round(alpha * image[..., :3] + (1 - alpha) * WHITE).astype(np.uint8)
    return np.ascontiguousarray(image)


def _channels_last(array: NDArray, name: str) -> NDArray:
    """Return (H, W, C) of an image in any of its layouts."""
    shape = array.shape
    if array.ndim == 2 and array.size:
        return array[..., None]
    if array.ndim == 3 and array.size:
        if shape[-1] == 3:
            return array
        if shape[0] in CHANNELS:
            return np.moveaxis(array, 0, -1)
        if shape[-1] in CHANNELS:
            return array
    what = "has no pixels" if array.ndim in (2, 3) and not array.size else "is no image's"
    raise InputError(f"{name}: its shape {_short(shape)} {what}. Give (H, W, 3), one image at a time.")


def _as_bytes(image: NDArray, name: str) -> NDArray[np.uint8]:
    """Return an image's values as bytes: whole numbers as they are, floats up to 1 times 255."""
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "iuf":
        raise InputError(f"{name}: {image.dtype} are no pixels. Give whole numbers from 0 to 255.")
    least, largest = image.min(), image.max()
    if not (least >= 0 and largest <= WHITE):  # NaN is in no range
        raise InputError(
            f"{name}: has values from {least:g} to {largest:g}, which are no pixels.\n"
            "Give whole numbers from 0 to 255, or floats from 0 to 1."
        )
    if image.dtype.kind == "f" and largest <= 1:
        return np.round(image * WHITE).astype(np.uint8)
    if image.dtype.kind == "f" and not np.array_equal(image, np.round(image)):
        raise InputError(
            f"{name}: its floats go up to {largest:g}, and not all are whole.\n"
            "Give whole numbers from 0 to 255, or floats from 0 to 1."
        )
    return image.astype(np.uint8)


def _short(shape: tuple[int, ...]) -> str:
    """Return a shape for a message."""
    return str(shape) if len(shape) <= 6 else f"of {len(shape)} axes"
