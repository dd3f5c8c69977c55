"""Average pooling: the mean of f × f neighbouring vectors, so that an image takes f² times fewer tokens.

    y(r, c) = 1/f² Σ x(f r + i, f c + j)          i, j = 0 … f − 1

Unlike a pixel shuffle (kernels/pixel_shuffle.py) it has no width that grows with f, and loses what the
neighbours differ in; the encoder has been trained to write what matters so that it survives. Rows and columns
that are left over after the last square are dropped. LeCun et al. 1989, as subsampling; Gemma 3 (Gemma Team
2025, arXiv:2503.19786) makes 16 × 16 vectors of 64 × 64.
"""

import numpy as np
from numpy.typing import NDArray


def average_pool(x: NDArray, factor: int) -> NDArray:
    """Take the mean of each square of neighbours: (..., rows, columns, D) → (..., ⌊rows/f⌋, ⌊columns/f⌋, D).

    factor  f, at least 1

    Returns a new array.

    >>> average_pool(np.array([[[0.0], [2.0], [9.0]], [[4.0], [6.0], [9.0]]]), 2).tolist()
    [[[3.0]]]
    """
    *batch, rows, columns, D = x.shape
    whole = x[..., : rows // factor * factor, : columns // factor * factor, :]
    squares = whole.reshape(*batch, rows // factor, factor, columns // factor, factor, D)
    return np.asarray(squares.mean(axis=(-4, -2)))
