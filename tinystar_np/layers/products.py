"""Products by large matrices, in whichever form and in as many threads as is fastest for so many vectors."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.linear import MOST_DIRECT_ROWS, direct_product, direct_size, linear
from tinystar_np.threads import blas_multiplies_directly, divided, shares

LEAST_WEIGHTS = 1_000_000  # a product by fewer is done before another thread is awake

Product = Callable[[NDArray, NDArray], NDArray]
"""Maps vectors (T, in) and a matrix as it is stored to (T, out)."""


def product(x: NDArray, weight: NDArray) -> NDArray:
    """Multiply vectors by a float32 matrix: x W.

    x       (T, in)
    weight  (in, out), in any memory order

    Returns (T, out), a new array.
    """
    if 1 < len(x) <= MOST_DIRECT_ROWS:
        transposed = not weight.flags.c_contiguous
        stored = weight.T if transposed else weight
        size = direct_size(len(x), stored, transposed)
        if size and blas_multiplies_directly():
            divide = outputs_divided if transposed else inputs_divided
            return divide(partial(direct_product, size=size, transposed=transposed), x, stored)
    return linear(x, weight)


def inputs_divided(multiply: Product, x: NDArray, stored: NDArray) -> NDArray:
    """Multiply (T, in) by a matrix (in, out), the inputs divided among threads, whose sums are added."""
    if stored.size < LEAST_WEIGHTS:
        return multiply(x, stored)
    first, *others = divided(lambda some: multiply(x[:, some], stored[some]), shares(len(stored)))
    for other in others:
        first += other
    return first


def outputs_divided(multiply: Product, x: NDArray, stored: NDArray) -> NDArray:
    """Multiply (T, in) by a matrix stored as (out, in), the outputs divided among threads."""
    if stored.size < LEAST_WEIGHTS:
        return multiply(x, stored)
    return np.concatenate(divided(lambda some: multiply(x, stored[some]), shares(len(stored))), axis=1)
