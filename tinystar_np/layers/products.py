"""Products by large matrices, in whichever form and in as many threads as is fastest for so many vectors."""

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.linear import direct_product, direct_size, linear
from tinystar_np.kernels.widened import BLOCK, Widen, block_size, by_inputs, by_outputs
from tinystar_np.threads import blas_multiplies_directly, divided, shares

LEAST_WEIGHTS = 1_000_000  # a product by fewer is done before another thread is awake
LEAST_NARROW = 460_800  # from here on OpenBLAS wakes threads of its own, which keep a core from ours
FEW_ROWS = 48  # vectors by which a matrix stored as (in, out) is taken some inputs at a time


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
    multiply: Callable[[NDArray, NDArray], NDArray],
    x: NDArray,
    stored: NDArray,
    transposed: bool,
    least: int = LEAST_WEIGHTS,
) -> NDArray:
    """Multiply vectors by a matrix whose rows, as they are stored, are divided among threads.

    multiply    maps vectors (T, in) and some of the rows to (T, out): those rows' outputs, or their inputs'
                share of every output
    x           (T, in)
    stored      (in, out), or (out, in) with ``transposed``
    transposed  whether the stored matrix is the transpose of the one to multiply by
    least       weights for which more than one thread is used

    Returns (T, out), a new array.
    """
    if stored.size < least:
        return multiply(x, stored)
    rows = shares(len(stored))
    if transposed:
        return np.concatenate(divided(lambda some: multiply(x, stored[some]), rows), axis=1)
    first, *others = divided(lambda some: multiply(x[:, some], stored[some]), rows)
    for other in others:
        first += other
    return first


def narrow_product(
    x: NDArray[np.float32],
    stored: NDArray,
    transposed: bool,
    widen: Widen,
    scales: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Multiply vectors by a matrix of a narrow type: x W.

    x           (T, in)
    stored      (in, out), or (out, in) with ``transposed``
    transposed  whether the stored matrix is the transpose of the one to multiply by
    widen       from its type to float32, see kernels/widened.py
    scales      (out,), which multiply the products; None for 1

    Each thread widens and multiplies its own outputs, with one BLAS thread.

    Returns float32 (T, out), a new array.
    """
    x = np.ascontiguousarray(x)
    if not transposed and len(x) <= FEW_ROWS:
        sums = in_threads(partial(_by_inputs, widen=widen), x, stored, False, LEAST_NARROW)
        return sums if scales is None else np.multiply(sums, scales, out=sums)
    matrix = stored if transposed else stored.T
    y = np.empty((len(x), len(matrix)), dtype=np.float32)
    directly = blas_multiplies_directly()

    def fill(some: slice) -> None:
        part, its_scales = matrix[some], None if scales is None else scales[some]
        size = min(block_size(len(x), part.shape[1]), len(part))
        buffer = _buffer(size * part.shape[1])
        by_outputs(x, part, widen, buffer, y[:, some], scales=its_scales, directly=directly)

    divided(fill, shares(len(matrix)) if matrix.size >= LEAST_NARROW else [slice(None)])
    return y


def _by_inputs(x: NDArray[np.float32], stored: NDArray, widen: Widen) -> NDArray[np.float32]:
    return by_inputs(x, stored, widen, _buffer(min(max(BLOCK, stored.shape[1]), stored.size)))


class _Buffers(threading.local):
    """One buffer per thread: fresh memory for each product would cost more than the widening."""

    numbers = np.empty(0, dtype=np.float32)


_buffers = _Buffers()


def _buffer(numbers: int) -> NDArray[np.float32]:
    """Find room that this thread may write over: 4 to 16 MB, kept until the thread ends."""
    if _buffers.numbers.size < numbers:
        _buffers.numbers = np.empty(numbers, dtype=np.float32)
    return _buffers.numbers
