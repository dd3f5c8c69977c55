"""Products with a matrix that is made of others: one product with each, so that all are as quick as alone."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast import linear
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns


def matmul(x: NDArray, weight: Matrix) -> NDArray:
    """Multiply vectors by a matrix: (..., in), (in, out) → (..., out), a new array."""
    if not isinstance(weight, MatrixInTurns):
        return linear.matmul(x, weight)
    turns = len(weight.parts)
    parts = [part if part.transposed == weight.transposed else part.T for part in weight.parts]
    if not weight.transposed:  # its inputs alternate
        first, *others = (linear.matmul(x[..., turn::turns], part) for turn, part in enumerate(parts))
        return sum(others, start=first)
    y = np.empty((*x.shape[:-1], weight.shape[1]), x.dtype)
    for turn, part in enumerate(parts):
        y[..., turn::turns] = linear.matmul(x, part)
    return y
