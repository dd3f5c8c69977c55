"""Pixel shuffle: f × f neighbouring vectors become one long vector, and an image takes f² times fewer tokens.

An encoder needs small patches to see details, and a language model has to read each of its vectors as it
reads a word. Between the two, neighbours are put side by side, and a linear map or a small feed-forward layer
brings the f² D numbers to the language model's width. Nothing is averaged away before that map has seen it.

    y(r, c) = [ x(f r, f c), x(f r, f c + 1), …, x(f r + f − 1, f c + f − 1) ]          row by row

The name is that of the opposite way, in which f² channels become f × f pixels (Shi et al. 2016,
arXiv:1609.05158). InternVL 1.5 (Chen et al. 2024, arXiv:2404.16821), Idefics3 and SmolVLM, Llama 4. Qwen2-VL
and those after it merge the same neighbours in the same order; they number their patches by squares to begin
with, so that there the shuffle is a change of shape.

Mistral's patch merger collects the same numbers in another order: the first number of all f² vectors, then
the second of all, and so on. A map that was trained for one order is wrong for the other.
"""

import numpy as np
from numpy.typing import NDArray


def pixel_shuffle(x: NDArray, factor: int) -> NDArray:
    """Put squares of neighbours side by side: (..., rows, columns, D) → (..., rows/f, columns/f, f²·D).

    factor  f, which divides rows and columns

    Returns a new array. Its vectors are those of a square one after the other, row by row.

    >>> pixel_shuffle(np.arange(8).reshape(2, 2, 2), 2).tolist()  # of vectors 0 1, 2 3 and, below, 4 5, 6 7
    [[[0, 1, 2, 3, 4, 5, 6, 7]]]
    """
    *batch, rows, columns, D = x.shape
    return _squares(x, factor).reshape(*batch, rows // factor, columns // factor, factor * factor * D)


def pixel_shuffle_by_channel(x: NDArray, factor: int) -> NDArray:
    """Do as ``pixel_shuffle``, but collect each number of the f² vectors before the next number.

    Mistral 3's patch merger; the order in which torch unfolds an image.

    >>> pixel_shuffle_by_channel(np.arange(8).reshape(2, 2, 2), 2).tolist()
    [[[0, 2, 4, 6, 1, 3, 5, 7]]]
    """
    *batch, rows, columns, D = x.shape
    channels_first = np.moveaxis(_squares(x, factor), -1, -3)  # (..., rows/f, columns/f, D, f, f)
    return np.ascontiguousarray(channels_first).reshape(
        *batch, rows // factor, columns // factor, D * factor * factor
    )


def _squares(x: NDArray, factor: int) -> NDArray:
    """Cut a grid into squares: (..., rows, columns, D) → (..., rows/f, columns/f, f, f, D), a new array."""
    *batch, rows, columns, D = x.shape
    cut = x.reshape(*batch, rows // factor, factor, columns // factor, factor, D)
    return cut.swapaxes(-4, -3).copy()
