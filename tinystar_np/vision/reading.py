"""Image files, as photographs and programs write them → (H, W, 3) uint8.

Turned as EXIF says, transparency put before white, all colours as red, green and blue, without their ICC
profile. Files come from anywhere: of one no more is read than its header before its size is known to be
bearable.
"""

import re
import warnings
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.errors import InputError
from tinystar_np.vision.arrays import rgb_from_array
from tinystar_np.vision.pillow import require_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    ImageSource = str | Path | bytes | PillowImage | NDArray

# Those that pictures are kept in. Pillow knows more, and starts other programs for some of them (PostScript).
# The first five are loaded at once, the others on demand, and before 11.3 AVIF is unknown: a KeyError.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "ICO", "TGA", "AVIF")
ORIENTATION = 0x0112  # EXIF's tag
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
ADDRESS = re.compile(r"data:|[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a Path leaves it one slash
FILTERS = Lock()  # of warnings, which are the same for all threads
WHITE = (255, 255, 255, 255)
LARGEST_16_BIT = 65535
AT_ONCE = 4_000_000  # pixels that are converted at once


def read_image(source: "ImageSource") -> NDArray[np.uint8]:
    """Read one image.

    source  a path, a file's bytes, a ``PIL.Image.Image``, or an array: see ``rgb_from_array``

    Transparent pixels are put before white, as transformers' image processors do with a PIL image. Given a
    path, its ``load_image`` drops the transparency and shows the colours under it, often black: there
    the two differ. 16-bit grey is scaled to 8 bits; Pillow, and transformers with it, cuts it at 255, which
    leaves a white sheet. Of a file with several pictures the first is taken, and a warning says so.

    Returns (H, W, 3) uint8. Raises InputError, with the file's name, for what is no image, is damaged, or has
    more pixels than Pillow's ``Image.MAX_IMAGE_PIXELS``; TinyStarError where Pillow is needed and absent.
    """
    if isinstance(source, np.ndarray):
        return rgb_from_array(source)
    require_pillow()
    from PIL import Image

    if isinstance(source, Image.Image):
        return _rgb(source, "images: the given PIL image")
    if isinstance(source, bytes):
        name = f"images: the {len(source)} given bytes"
        if not source:
            raise InputError("images: the given bytes are empty.")
        return _read_file(BytesIO(source), name)
    if not isinstance(source, str | Path):
        raise InputError(
            f"images: got a {type(source).__name__}. Give a path, a file's bytes, a PIL image or an array."
        )
    path = Path(source)
    name = one_line(source)
    check_file(path)
    return _read_file(path, name)


def check_file(path: Path) -> None:
    """Raise InputError unless this is a file with something in it."""
    name = one_line(path)
    if ADDRESS.match(str(path)):
        raise InputError(f"{name}: addresses are not opened. Download the image and give its path.")
    try:
        if path.is_dir():
            raise InputError(f"{name}: is a directory. Give the path of an image.")
        # Reading from a pipe or a device may never end.
        if not path.is_file():
            raise InputError(f"{name}: there is no such file.")
        if not path.stat().st_size:
            raise InputError(f"{name}: the file is empty.")
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: cannot be read ({one_line(error)}).") from error


def _read_file(file: Path | BytesIO, name: str) -> NDArray[np.uint8]:
    """Read an image's file."""
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow refuses only what has more than twice its limit, and of the rest it warns.
        with FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except (UnidentifiedImageError, KeyError) as error:
        raise InputError(f"{name}: is no image that is read here ({', '.join(FORMATS)}).") from error
    except Exception as error:  # a decoder fails on a broken file with whatever it meets
        raise _damaged(name, error) from error
    with image:
        _check_size(image, name)
        # A phone's JPEG of several pictures (MPO) holds one, and its depth or brightness.
        if image.format != "MPO" and getattr(image, "is_animated", False):
            warnings.warn(f"{name}: has several pictures; the first is used.", stacklevel=3)
        return _rgb(image, name)


def _rgb(image: "PillowImage", name: str) -> NDArray[np.uint8]:
    """Return an image's pixels, upright and without transparency."""
    from PIL import Image

    try:
        image.load()
        _check_size(image, name)  # again, as an ICO is a list of other images
        if image.mode == "F":  # whether 1 is white, or 255, is seen in the whole
            pixels = rgb_from_array(np.asarray(image), name)
            return np.ascontiguousarray(_turned(pixels, _orientation(image)))
        # Strip by strip: 89 million pixels take 360 MB in Pillow, and each copy of them as much again.
        width, height = image.size
        rows = max(1, AT_ONCE // width)
        stored = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, rows):
            strip = image.crop((0, top, width, min(top + rows, height)))
            stored[top : top + rows] = _rgb_of_strip(strip, name)
        return _turned(stored, _orientation(image))
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except Exception as error:  # a decoder fails on a broken file with whatever it meets
        raise _damaged(name, error) from error


def _rgb_of_strip(image: "PillowImage", name: str) -> NDArray[np.uint8]:
    """Return some rows of an image as red, green and blue, without transparency."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        return _grey(image, name)
    if image.mode in WITH_ALPHA or image.info.get("transparency") is not None:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _turned(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return an image upright that EXIF says was stored in one of eight ways; another view of the same array.

    The first row and column that are stored lie in the picture: 1 above and left, 2 above and right, 3 below
    and right, 4 below and left, and from 5 to 8 rows and columns have changed places.
    """
    swapped = stored.swapaxes(0, 1)
    ways = {
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: swapped,
        6: swapped[:, ::-1],
        7: swapped[::-1, ::-1],
        8: swapped[::-1],
    }
    return ways.get(orientation, stored)


def _check_size(image: "PillowImage", name: str) -> None:
    """Raise InputError for an image without pixels, or of so many that they fill the memory."""
    from PIL import Image

    if 0 in image.size:
        raise InputError(f"{name} has no pixels: it is {image.width} wide and {image.height} high.")
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(name)


def _orientation(image: "PillowImage") -> int:
    """Read how EXIF says that the camera was held: 1 for upright, and where it is damaged."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever Pillow meets in it: the picture itself is whole
        return 1


def _grey(image: "PillowImage", name: str) -> NDArray[np.uint8]:
    """Return grey of 16 bits, scaled to 8."""
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > LARGEST_16_BIT:
        raise InputError(
            f"{name}: grey from {grey.min()} to {grey.max()}; up to 16 bits are read.\n"
            "Convert the image to 8 or 16 bits."
        )
    eight = ((grey.astype(np.uint32) * 255 + LARGEST_16_BIT // 2) // LARGEST_16_BIT).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        eight[grey == transparent] = 255
    return rgb_from_array(eight)


def _too_large(name: str) -> InputError:
    """Return the error for an image of too many pixels."""
    from PIL import Image

    return InputError(
        f"{name}: has more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit against files that fill "
        "the memory.\nMake the image smaller; models look at far fewer."
    )


def _damaged(name: str, error: Exception) -> InputError:
    """Return the error for a file that cannot be decoded."""
    reason = one_line(f"{type(error).__name__}: {error}", 120)
    return InputError(f"{name}: the image is damaged or cut off ({reason}).\nDownload or save it again.")
