"""Images of awkward sizes and kinds, made with NumPy: what preprocessing is held against transformers on."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Height and width: edges, a tile of 224, 336, 364, 384 or 512 exactly and by a pixel, larger than all tiles.
SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (3, 3),
    (1, 300),
    (300, 1),
    (17, 31),
    (31, 17),
    (223, 225),
    (224, 224),
    (225, 224),
    (336, 336),
    (337, 336),
    (364, 364),
    (364, 365),
    (383, 385),
    (384, 384),
    (512, 512),
    (513, 512),
    (333, 999),
    (999, 333),
    (480, 640),
    (640, 481),
    (101, 1009),
    (672, 672),
    (700, 300),
    (1600, 900),
    (1456, 1457),
    (3, 4000),
    (4000, 3),
]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    """Each value drawn on its own: nothing that a wrong filter could hide in."""
    return np.random.default_rng(height * 5000 + width).integers(0, 256, (height, width, 3), np.uint8)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth from corner to corner, another way in each colour."""
    y = np.linspace(0, 1, height)[:, None]
    x = np.linspace(0, 1, width)[None]
    colours = np.stack([y + 0 * x, x + 0 * y, (x + y) / 2], axis=-1)
    return np.round(colours * 255).astype(np.uint8)


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """Something like a photograph: soft light, discs with sharp edges, fine texture."""
    rng = np.random.default_rng(height * 7000 + width)
    y = np.linspace(0, 1, height)[:, None, None]
    x = np.linspace(0, 1, width)[None, :, None]
    picture = 90 + 80 * np.sin(3 * x + rng.random(3)) + 60 * y * rng.random(3)
    for _ in range(6):
        centre_y, centre_x, radius = rng.random(), rng.random(), 0.05 + 0.2 * rng.random()
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        picture = np.where(inside, 255 * rng.random(3), picture)
    picture = picture + 8 * rng.standard_normal((height, width, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def awkward_images() -> dict[str, NDArray[np.uint8]]:
    """Thirty images, (H, W, 3) uint8, by a name that says size and content."""
    kinds: list[Callable[[int, int], NDArray[np.uint8]]] = [noise, gradient, photo]
    return {
        f"{height}x{width} {kinds[i % 3].__name__}": kinds[i % 3](height, width)
        for i, (height, width) in enumerate(SIZES)
    }


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of this kind: "PNG", "JPEG", …"""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
