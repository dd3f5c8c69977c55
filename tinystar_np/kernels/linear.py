"""A linear map: every output is a weighted sum of all inputs.

    y = x W + b

Nearly all of a model's weights stand in these matrices. Generating one token multiplies one vector by
each of them, so that its cost is the reading of every weight once; a prompt of T tokens multiplies T
vectors by the same weights, and the cost is arithmetic.

Between them lie a short prompt, the next token of several texts, and guesses that are checked. BLAS copies
every block of a large matrix into another order before it multiplies, which for a few vectors is most of the
work. There are two ways around it.

``direct_product`` cuts the matrix into so many small ones that BLAS takes each for too small to be worth
copying. OpenBLAS does so on processors with AVX-512; elsewhere it copies all the same.

    billions of weights per second; two cores, OpenBLAS 0.3.31
                                   vectors    2     4     8    12
    stored as (out, in) = (8192, 2048), turned  2.0   1.7   1.6   1.5
                                        direct  4.4   3.7   2.8   2.5
    stored as (in, out) = (768, 3072),   plain  1.7   1.6   1.5   1.3
                                        direct  2.7   2.1   2.9   2.1

``linear`` itself does what helps less. Where the matrix lies in memory as (out, in), a product
(few, in) · (in, out) is written the other way round, yᵀ = Wᵀ xᵀ: the same sums, but BLAS then walks over the
large matrix as the left one, and copies less of it. Sixteen rows are read 1.2 to 1.7 times as fast by it with
AVX-512, and about as fast (0.85 to 1.1 times) with what OpenBLAS has for other processors; from (in, out)
they would be no faster.
"""

import numpy as np
from numpy.typing import NDArray

FEW_ROWS = 48
MOST_DIRECT_ROWS = 12

# What OpenBLAS takes for small (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c):
MOST_MULTIPLICATIONS = 1_000_000
MOST_RESULTS = 1200  # where the second matrix is a transpose

LEAST_OUTPUTS = 8  # of a small matrix
MOST_PARTIAL_SUMS = 0.5  # per weight: they are written to memory and read again


def linear(x: NDArray, weight: NDArray, bias: NDArray | None = None) -> NDArray:
    """Map each vector of the last axis.

    x       (..., in)
    weight  (in, out), in any memory order: a transposed view costs nothing
    bias    (out,) or None

    Returns (..., out), a new array.
    """
    # One product over all rows. NumPy would turn (B, T, in) @ (in, out) into B products, and read the
    # weights B times.
    rows = x.reshape(-1, x.shape[-1])
    few = 1 < len(rows) <= FEW_ROWS and not weight.flags.c_contiguous
    y = np.ascontiguousarray((weight.T @ rows.T).T) if few else rows @ weight
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1])


def direct_size(rows: int, stored: NDArray, transposed: bool) -> int:
    """Say into how small parts ``direct_product`` must cut a matrix.

    rows        T, the vectors to multiply
    stored      (in, out), or (out, in) with ``transposed``
    transposed  whether the stored matrix is the transpose of the one to multiply by

    Returns how many rows of ``stored`` a part has, or 0 where the product should not be done so.
    """
    if not 1 < rows <= MOST_DIRECT_ROWS or not stored.size or not stored.flags.c_contiguous:
        return 0
    size = MOST_MULTIPLICATIONS // (rows * stored.shape[1])
    if transposed:
        size = min(size, MOST_RESULTS // rows)
        return size if size >= LEAST_OUTPUTS else 0
    return size if size * MOST_PARTIAL_SUMS >= rows else 0


def direct_product(x: NDArray, stored: NDArray, size: int, transposed: bool) -> NDArray:
    """Multiply few vectors by a matrix in small parts: ``linear(x, W)``, where W or its transpose is stored.

    x           (T, in)
    stored      (in, out), or (out, in) with ``transposed``; contiguous
    size        rows of ``stored`` in each part, from ``direct_size``
    transposed  whether the stored matrix is the transpose of the one to multiply by

    Returns (T, out), a new array.
    """
    whole = len(stored) // size * size
    parts = stored[:whole].reshape(-1, size, stored.shape[1])
    rest = stored[whole:]
    if transposed:  # each part gives some of the outputs
        y = np.empty((len(x), len(stored)), dtype=x.dtype)
        y[:, :whole].reshape(len(x), -1, size)[...] = (x @ parts.swapaxes(1, 2)).swapaxes(0, 1)
        y[:, whole:] = x @ rest.T
        return y
    # Each part gives some of every output's sum.
    y = (x[:, :whole].reshape(len(x), -1, size).swapaxes(0, 1) @ parts).sum(axis=0)
    y += x[:, whole:] @ rest
    return y
