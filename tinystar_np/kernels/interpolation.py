"""Interpolation: a table of positions, learned for one grid of patches, resized to another.

An encoder that learns a vector for each place of a grid has nothing for an image of more patches, or of
another shape. But neighbouring places have learned similar vectors: the table is a smooth picture of D
channels, and can be resized like one. Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.2.

Each new place r' is looked up in the old grid at u, between the old places ⌊u⌋ and ⌊u⌋ + 1, and is a weighted
sum of the old ones around u. With a distance of d, an old place has the weight

    linear   1 − d                                      d ≤ 1, two places
    cubic    (a + 2) d³ − (a + 3) d² + 1                d ≤ 1
             a d³ − 5a d² + 8a d − 4a                   1 ≤ d ≤ 2, four places, with a = −3/4

Keys 1981, doi:10.1109/TASSP.1981.1163711. Cubic weights go below 0 and overshoot at edges, as a smooth curve
through given points does. Old places beyond the border count as the last one.

Two rules say where u is. Either pixels are squares, and both grids cover the same area; or they are points,
and the corners of the two grids fall on each other:

    u = (r' + ½) n / n' − ½                             CLIP, SigLIP
    u = r' (n − 1) / (n' − 1)                           Qwen3-VL, with linear weights

Rows and columns are independent: each is a small matrix A of shape (n', n) that holds the weights, and the
table is resized by two products,

    new = A_rows · old · A_columnsᵀ

This is torch's ``interpolate`` without its antialiasing filter, as these models use it. The resizing of the
image itself is another matter: that averages over what becomes smaller.
"""

import numpy as np
from numpy.typing import NDArray

CUBIC = -0.75
"""a, the slope of the cubic weights at d = 1."""


def interpolated(
    table: NDArray, rows: int, columns: int, *, cubic: bool = True, corners_meet: bool = False
) -> NDArray:
    """Resize a table of vectors: (n_rows, n_columns, D) → (rows, columns, D).

    cubic         whether the four nearest places of each axis count, or two
    corners_meet  whether the corners of both grids are the same places, or the areas that they cover

    Returns a new array in the table's type.

    >>> table = np.array([[[0.0], [3.0]]])  # one row, two columns
    >>> interpolated(table, 1, 4, cubic=False, corners_meet=True).round(6).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    by_row = interpolation_weights(table.shape[0], rows, cubic=cubic, corners_meet=corners_meet)
    by_column = interpolation_weights(table.shape[1], columns, cubic=cubic, corners_meet=corners_meet)
    by_row, by_column = by_row.astype(table.dtype), by_column.astype(table.dtype)
    return np.tensordot(by_row, by_column @ table, axes=1)  # (n_rows, columns, D) → (rows, columns, D)


def interpolation_weights(
    old: int, new: int, *, cubic: bool = True, corners_meet: bool = False
) -> NDArray[np.float64]:
    """Return the weight of each old place of an axis in each new one: (new, old); each row sums to 1.

    cubic, corners_meet  as in ``interpolated``

    >>> interpolation_weights(2, 4, cubic=False).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    >>> interpolation_weights(4, 3, corners_meet=True)[1].tolist()  # cubic, in the middle of four
    [-0.09375, 0.59375, 0.59375, -0.09375]
    """
    places = np.arange(new)
    step, half = ((old - 1) / max(new - 1, 1), 0.0) if corners_meet else (old / new, 0.5)
    at = np.float64(np.float32(step)) * (places + half) - half  # u
    # Rounded where torch rounds: at place 40 that is 4e-6 of a weight.
    at = at.astype(np.float32).astype(np.float64)
    near = np.floor(at).astype(int)
    weights = np.zeros((new, old))
    for offset in (-1, 0, 1, 2) if cubic else (0, 1):
        distance = np.abs(at - (near + offset))
        weight = _cubic_weight(distance) if cubic else 1 - distance
        weights[places, np.clip(near + offset, 0, old - 1)] += weight
    return weights


def _cubic_weight(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight of a place at each distance from 0 to 2."""
    a = CUBIC
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)
