"""Products of a few vectors, of which BLAS is handed parts of the matrix so small that it does not copy them.

OpenBLAS copies every block of a large matrix into another order before it multiplies, which for a few vectors
(a short prompt, several texts, guesses that are checked) is most of the work. It does not copy small ones on
processors with AVX-512; on others it copies them all the same.

    billions of weights per second; two cores, OpenBLAS 0.3.31
                                         vectors    2     4     8    12
    stored as (out, in) = (8192, 2048), yᵀ = Wᵀ xᵀ  2.0   1.7   1.6   1.5
                                            direct  4.4   3.7   2.8   2.5
    stored as (in, out) = (768, 3072),       plain  1.7   1.6   1.5   1.3
                                            direct  2.7   2.1   2.9   2.1

With more vectors BLAS's copy costs less beside the products, and only large matrices gain:

    milliseconds; another machine, two cores      13    16    20    24 vectors
    (32000, 2048), yᵀ = Wᵀ xᵀ                   22.4  14.4  17.0  21.9
                       direct                   11.5  11.3  13.0  15.4
    (3072, 768), yᵀ = Wᵀ xᵀ                     0.64  0.49  0.60  0.67
                     direct                     0.56  0.59  0.66  0.65
"""

import numpy as np
from numpy.typing import NDArray

MOST_DIRECT_VECTORS = 12
MOST_WITH_LARGE = 24  # vectors, for a matrix of so many weights:
LARGE = 8_000_000

# Products that OpenBLAS counts as small (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c):
MOST_MULTIPLICATIONS = 1_000_000
MOST_RESULTS = 1200  # where the second matrix is a transpose
LEAST_OUTPUTS = 8  # of a small matrix
MOST_PARTIAL_SUMS = 0.5  # per weight: they are written to memory and read again


def direct_size(vectors: int, stored: NDArray, transposed: bool) -> int:
    """Return how many rows of ``stored`` a part of ``direct_product`` has; 0 where it is not worth it."""
    most = MOST_WITH_LARGE if transposed and stored.size >= LARGE else MOST_DIRECT_VECTORS
    if not 1 < vectors <= most or not stored.size or not stored.flags.c_contiguous:
        return 0
    size = MOST_MULTIPLICATIONS // (vectors * stored.shape[1])
    if transposed:
        size = min(size, MOST_RESULTS // vectors)
        return size // LEAST_OUTPUTS * LEAST_OUTPUTS
    return size if size * MOST_PARTIAL_SUMS >= vectors else 0


def direct_product(x: NDArray, stored: NDArray, size: int, transposed: bool) -> NDArray:
    """Multiply few vectors by a matrix in small parts.

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
