"""Patches: an image as a text whose tokens are squares of p × p pixels.

A transformer reads a sequence of vectors. An image becomes one by being cut into squares, row by row, each
of which is written as one vector of all its numbers and mapped linearly to the model's width D:

    patch(r, c) = image[:, r p : (r + 1) p, c p : (c + 1) p]          C p² numbers
    x(r, c) = W patch(r, c) + bias

Checkpoints keep W as the weights of a convolution, (D, C, p, p). A convolution multiplies its weights with
the pixels under them at every place that it visits; where it moves on by its own width, each pixel is under
it once, and the convolution is this linear map: W is (D, C p²), and the numbers of a patch are in the order
of the weights, channel by channel, then row by row. Dosovitskiy et al. 2020, arXiv:2010.11929.

What is left over at the right and below, where p does not divide the image, belongs to no patch: SigLIP's 384
pixels are 27 patches of 14, and 6 pixels that it never sees.

**Films.** Qwen2-VL reads films, and its patches are p × p pixels of F = 2 consecutive frames; W is
(D, C, F, p, p). A still image is a film in which nothing moves. All frames of a patch are then equal, and one
product with the sum of their weights does for all:

    Σ_f W_f patch = (Σ_f W_f) patch          Wang et al. 2024, arXiv:2409.12191
"""

import numpy as np
from numpy.typing import NDArray


def patches(images: NDArray, size: int) -> NDArray:
    """Cut images into squares: (..., C, H, W) → (..., rows, columns, C·p·p).

    size  p, the height and width of a square in pixels

    Returns a new array of ⌊H / p⌋ rows and ⌊W / p⌋ columns. A patch's numbers are in the order of a
    convolution's weights: by channel, then by row, then by column.

    >>> patches(np.arange(8).reshape(1, 2, 4), 2).tolist()  # of an image of the rows 0 1 2 3 and 4 5 6 7
    [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    """
    *batch, C, H, W = images.shape
    rows, columns = H // size, W // size
    whole = images[..., : rows * size, : columns * size]
    parts = whole.reshape(*batch, C, rows, size, columns, size)
    parts = np.moveaxis(parts, (-4, -2), (-5, -4))  # (..., rows, columns, C, p, p)
    return np.ascontiguousarray(parts).reshape(*batch, rows, columns, C * size * size)


def still_weight(weight: NDArray) -> NDArray:
    """Return the weights by which a still image's patches are mapped: (D, C, F, p, p) → (D, C·p·p).

    weight  of a convolution over F frames at once; an image counts as F equal frames

    >>> still_weight(np.array([1.0, 2.0]).reshape(1, 1, 2, 1, 1)).tolist()
    [[3.0]]
    """
    return weight.sum(axis=2).reshape(len(weight), -1)
