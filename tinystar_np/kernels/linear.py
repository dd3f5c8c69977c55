"""A linear map: every output is a weighted sum of all inputs.

    y_o = Σ_i x_i W_io        y = x W, and in many models + b

Nearly all of a model's weights are in such matrices. Generating one token multiplies one vector by each of
them, and costs about as much as reading every weight once; a prompt of T tokens multiplies T vectors by the
same weights, and its cost is arithmetic.

An embedding is the same map for a vector that is 1 at one place and 0 elsewhere: one row of the matrix is
looked up.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.packed import PackedMatrix

Matrix = NDArray | PackedMatrix
"""A matrix of float32, or one that keeps its numbers in fewer bits (kernels/packed.py)."""


def matmul(x: NDArray, weight: Matrix) -> NDArray:
    """Multiply vectors by a matrix.

    x       (..., in)
    weight  (in, out)

    Returns (..., out), a new array.

    >>> matmul(np.array([1.0, 2.0]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]])).tolist()
    [1.0, 2.0, 11.0]
    """
    return x @ unpacked(weight)


def matmul_each(x: NDArray, weights: Sequence[Matrix]) -> list[NDArray]:
    """Multiply the same vectors by several matrices.

    x        (..., in)
    weights  (in, out) each; the widths of their outputs may differ

    Returns one (..., out) for each, new arrays.

    >>> matmul_each(np.array([1.0, 2.0]), [np.array([[1.0], [1.0]]), np.array([[1.0], [10.0]])])
    [array([3.]), array([21.])]
    """
    return [matmul(x, weight) for weight in weights]


def embedding(ids: NDArray[np.integer], table: Matrix) -> NDArray:
    """Look up the vectors of tokens, or of positions.

    ids    (...), from 0 to V − 1
    table  (V, D)

    Returns (..., D), a new array.

    >>> embedding(np.array([2, 0]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """
    return unpacked(table)[ids]


def unpacked(matrix: Matrix) -> NDArray:
    """Return the float32 matrix (in, out) of a packed one; an array as it is.

    >>> from tinystar_np.kernels.packed import Int8Matrix
    >>> unpacked(Int8Matrix(np.int8([[1, 2], [3, 4]]), np.float32([10, 100]))).tolist()
    [[10.0, 300.0], [20.0, 400.0]]
    """
    if not isinstance(matrix, PackedMatrix):
        return matrix
    rows = matrix.rows(slice(None))
    return rows.T if matrix.transposed else rows
