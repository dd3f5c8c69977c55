"""Products by large matrices, in whichever form and in as many threads as is fastest for so many vectors."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.linear import direct_product, direct_size, linear
from tinystar_np.threads import blas_multiplies_directly, divided, shares

LEAST_WEIGHTS = 1_000_000  # a product by fewer is done before another thread is awake


def product(x: NDArray, weight: NDArray) -> NDArray:
    """Multiply vectors by a float32 matrix: x W.

    x       (T, in)
    weight  (in, out), in any memory order

    Returns (T, out), a new array.
    """
    transposed = not weight.flags.c_contiguous
    stored = weight.T if transposed else weight
    size = direct_size(len(x), stored, transposed)
    if size and blas_multiplies_directly():
        return in_threads(partial(direct_product, size=size, transposed=transposed), x, stored, transposed)
    return linear(x, weight)


def in_threads(
    multiply: Callable[[NDArray, NDArray], NDArray], x: NDArray, stored: NDArray, transposed: bool
) -> NDArray:
    """Multiply vectors by a matrix whose rows, as they are stored, are divided among threads.

    multiply    maps vectors (T, in) and some of the rows to (T, out): those rows' outputs, or their inputs'
                share of every output
    x           (T, in)
    stored      (in, out), or (out, in) with ``transposed``
    transposed  whether the stored matrix is the transpose of the one to multiply by

    Returns (T, out), a new array.
    """
    if stored.size < LEAST_WEIGHTS:
        return multiply(x, stored)
    rows = shares(len(stored))
    if transposed:
        return np.concatenate(divided(lambda some: multiply(x, stored[some]), rows), axis=1)
    first, *others = divided(lambda some: multiply(x[:, some], stored[some]), rows)
    for other in others:
        first += other
    return first
