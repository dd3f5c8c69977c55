"""Where on an image the vectors lie that stand for it: boxes, as shares of the image.

    left, top, right, bottom      0, 0 is the upper left corner and 1, 1 the lower right one

What an encoder sees may be less than the image, where the middle is cut out of it, or more, where something
is put around it. So a box is first computed on what the encoder sees, whose corners may lie outside of the
image, and then cut at the image's edges.
"""

from collections.abc import Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from tinystar_np.vision.transforms import Size

Boxes = NDArray[np.float64]
Area = tuple[float, float, float, float]
"""Left, top, right and bottom."""

WHOLE: Area = (0.0, 0.0, 1.0, 1.0)
NOWHERE: Boxes = np.full((1, 4), np.nan)
"""The box of a vector that stands for no part of the image."""


def cells(area: Area, rows: int, columns: int) -> Boxes:
    """Cut an area into equal cells, row by row: (rows · columns, 4)."""
    left, top, right, bottom = area
    x = np.linspace(left, right, columns + 1)
    y = np.linspace(top, bottom, rows + 1)
    found = np.empty((rows, columns, 4))
    found[..., 0], found[..., 2] = x[:-1], x[1:]
    found[..., 1], found[..., 3] = y[:-1, None], y[1:, None]
    return found.reshape(-1, 4)


def squares(area: Area, size: Size, side: int) -> Boxes:
    """Cut an area into squares of pixels, row by row; what is left on the right and below is in none.

    area  what the pixels show
    size  height and width of the pixels
    side  of the squares, in pixels
    """
    rows, columns = size[0] // side, size[1] // side
    covered = (0.0, 0.0, columns * side / size[1], rows * side / size[0])
    return cells(within(area, covered), rows, columns)


def tile_cells(tiles: Sequence[Area] | Boxes, vectors: int) -> Boxes:
    """Cut each tile into as many cells as there are vectors of it, the same number in rows and columns.

    Returns (n · vectors, 4).
    """
    side = isqrt(vectors)
    return np.concatenate(
        [cells((left, top, right, bottom), side, side) for left, top, right, bottom in tiles]
    )


def within(area: Area, part: Area) -> Area:
    """Return the area that a part has, which is given in shares of the area."""
    left, top, right, bottom = area
    width, height = right - left, bottom - top
    return left + part[0] * width, top + part[1] * height, left + part[2] * width, top + part[3] * height


def in_shares_of(part: Area, boxes: Boxes) -> Boxes:
    """Return boxes in shares of a part of what they were given in shares of."""
    left, top, right, bottom = part
    origin = np.array([left, top, left, top])
    return (boxes - origin) / np.array([right - left, bottom - top] * 2)


def cropped_area(size: Size, crop: Size) -> Area:
    """Return what ``centre_cropped`` leaves, or puts around: in shares of the image before it.

    size  height and width before
    crop  height and width after
    """
    starts = [
        (old - new) // 2 if old >= new else -((new - old + 1) // 2)
        for old, new in zip(size, crop, strict=True)
    ]
    top, left = (start / old for start, old in zip(starts, size, strict=True))
    bottom, right = ((start + new) / old for start, new, old in zip(starts, crop, size, strict=True))
    return left, top, right, bottom


def on_the_image(boxes: Boxes) -> Boxes:
    """Cut boxes at the image's edges: (N, 4). One that lies outside of it becomes NaN."""
    found = np.clip(boxes, 0.0, 1.0)
    empty = (found[:, 2] <= found[:, 0]) | (found[:, 3] <= found[:, 1])
    found[empty] = np.nan
    return found


def looks(boxes: Boxes) -> list[slice]:
    """Divide the vectors of an image into looks at it: runs in which no two boxes overlap.

    An image that is cut into tiles is seen twice: by the tiles, and as a whole.

    boxes  (N, 4) in the order of their places

    Returns slices of them in order, which together are all.
    """
    starts = [0]
    # Shrunk a little, as neighbours share an edge that rounding may move.
    shrunk = boxes + 1e-9 * np.array([1, 1, -1, -1])
    for i, (left, top, right, bottom) in enumerate(shrunk):
        earlier = shrunk[starts[-1] : i]
        overlaps = (
            (earlier[:, 0] < right)
            & (left < earlier[:, 2])
            & (earlier[:, 1] < bottom)
            & (top < earlier[:, 3])
        )
        if overlaps.any():
            starts.append(i)
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(boxes)], strict=True)]
