"""Rotary embedding with several axes: rows and columns of an image, and time.

A token of a text stands at one position. A patch of an image stands in a row and in a column, and one of a
film also in a moment. Rotary embedding (kernels/rope.py) needs only one thing more: each of its J pairs is
given an axis, and rotates by the position on that axis alone.

    angle_j(t) = p_{axis(j)}(t) · f_j

The product of a query and a key is a sum over the pairs, each of which knows a distance on its own axis: so
both distances count, and nothing else. What remains to choose is which pair goes by which axis, and how fast
each pair rotates.

    encoder     axes of the pairs     their frequencies
    Pixtral     rows | columns        a head's, in turns: rows have f_0, f_2, …, columns f_1, f_3, …
    Qwen2-VL    rows | columns        those of half a head, twice
    Llama 4     columns | rows        those of half a head, twice; pairs are neighbours

"|" is between the first half of the pairs and the second. Llama 4 counts rows and columns from 1, so that its
class vector, which stands nowhere, is at (0, 0) and not rotated. Agrawal et al. 2024, arXiv:2410.07073
(Pixtral); Wang et al. 2024, arXiv:2409.12191 (Qwen2-VL).

**Language models (M-RoPE).** Qwen's language models have three axes: time, row and column. A token of the
text stands at the same position on all three, which is ordinary rotary embedding; an image's tokens stand at
one time and spread over rows and columns, which start where the text has come to. The text goes on after the
largest of an image's positions, so that an image of 24 × 32 tokens takes 32 positions and not 768:

              text   image of 2 × 3   text
    time      0 1    2 2 2  2 2 2     5 6
    row       0 1    2 2 2  3 3 3     5 6
    column    0 1    2 3 4  2 3 4     5 6

The pairs are divided into sections of time, rows and columns. In Qwen2-VL these follow each other: time has
the fast pairs, columns have slow ones alone. In Qwen3-VL they take turns, and each axis has fast pairs and
slow ones. Bai et al. 2025, arXiv:2511.21631.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.rope import Float32s, default_frequencies

TIME, ROW, COLUMN = 0, 1, 2
"""The axes of M-RoPE."""

ImagePlaces = tuple[int, int, tuple[int, int, int]]
"""Where an image stands in a text: its first place, how many places it takes, and its grid.

The grid has t moments, h rows and w columns of tokens, after patches were merged; t·h·w are the places.
"""


def rotary_angles_by_axis(
    positions: NDArray[np.integer], frequencies: Float32s, axes: NDArray[np.integer]
) -> Float32s:
    """Return the angle by which each pair is rotated: (axes, ..., T) → (..., T, J).

    positions    of each token on each axis
    frequencies  (J,)
    axes         (J,) which axis each pair goes by

    ``rotary_embedding`` takes the cosines and sines.

    >>> row_and_column = np.array([[2], [3]])  # of one token
    >>> rotary_angles_by_axis(row_and_column, np.float32([1, 1 / 2]), np.array([0, 1])).tolist()
    [[2.0, 1.5]]
    """
    return np.moveaxis(positions[axes].astype(np.float32), 0, -1) * frequencies


def grid_positions(rows: int, columns: int) -> NDArray[np.int64]:
    """Return the row and the column of each patch of an image, row by row: (2, rows·columns).

    >>> grid_positions(2, 3).tolist()
    [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    """
    return np.indices((rows, columns)).reshape(2, -1)


def halves(pairs: int) -> NDArray[np.int64]:
    """Give the first half of the pairs to rows, 0, and the second to columns, 1: (J,).

    >>> halves(4).tolist()
    [0, 0, 1, 1]
    """
    return np.repeat([0, 1], [pairs - pairs // 2, pairs // 2])


def frequencies_in_turns(head_dim: int, theta: float) -> Float32s:
    """Divide the frequencies of a head: rows get the first, third, …, columns the others: (K/2,).

    theta  θ of kernels/rope.py

    >>> print(frequencies_in_turns(8, 10_000))
    [1.    0.01  0.1   0.001]
    """
    frequencies = default_frequencies(head_dim, theta)
    return np.concatenate([frequencies[0::2], frequencies[1::2]])


def frequencies_twice(head_dim: int, theta: float) -> Float32s:
    """Give rows and columns the same frequencies, those of half a head: (K/2,), K a multiple of 4.

    >>> print(frequencies_twice(8, 10_000))
    [1.   0.01 1.   0.01]
    """
    return np.tile(default_frequencies(head_dim // 2, theta), 2)


def positions_by_axis(positions: NDArray[np.integer], images: Sequence[ImagePlaces]) -> NDArray[np.int64]:
    """Return where tokens stand in time, row and column: (T,) → (3, T).

    positions  their places in the text, where every token of an image is one place
    images     all of the text in their order, those before or after these places too

    A token after images stands at its place minus Σ (count − max(t, h, w)) over them.

    >>> print(positions_by_axis(np.arange(10), [(2, 6, (1, 2, 3))]))  # the example above
    [[0 1 2 2 2 2 2 2 5 6]
     [0 1 2 2 2 3 3 3 5 6]
     [0 1 2 3 4 2 3 4 5 6]]
    """
    found = np.broadcast_to(positions, (3, len(positions))).astype(np.int64)
    saved = 0  # Σ (count − max(t, h, w)) of the images so far
    for first, count, (moments, rows, columns) in images:
        inside = (positions >= first) & (positions < first + count)
        grid = np.indices((moments, rows, columns)).reshape(3, -1)  # (3, t·h·w)
        found[:, inside] = first - saved + grid[:, positions[inside] - first]
        saved += count - max(moments, rows, columns)
        after = positions >= first + count
        found[:, after] = positions[after] - saved
    return found


def sections(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Give the pairs to time, rows and columns, one section after the other: (J,), Qwen2-VL.

    sizes  how many pairs each section has, J together; a fourth section would be time's again

    >>> sections([2, 1, 1]).tolist()
    [0, 0, 1, 2]
    """
    return np.repeat(np.arange(len(sizes)) % 3, sizes)


def sections_in_turns(sizes: Sequence[int], pairs: int) -> NDArray[np.int64]:
    """Give the pairs to time, rows and columns in turns: (J,), Qwen3-VL.

    sizes  how many pairs go by time, rows and columns; where rows or columns have had theirs, time goes on
    pairs  J

    >>> sections_in_turns([3, 2, 1], 6).tolist()
    [0, 1, 2, 0, 1, 0]
    """
    axes = np.full(pairs, TIME)
    for axis in (ROW, COLUMN):
        axes[axis : 3 * sizes[axis] : 3] = axis
    return axes
