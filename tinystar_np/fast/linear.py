"""Products of vectors and large matrices, in the form and number of threads that is fastest for their number.

**One vector** is left to BLAS: a product reads every weight once, in its own threads. **A few vectors** are
multiplied in small parts (fast/direct.py) where that is quicker. Up to 48 vectors something helps less: where
the matrix is stored as (out, in), the product is computed as yᵀ = Wᵀ xᵀ, and BLAS copies less of the large
matrix (1.2 to 1.7 times as fast with AVX-512). Matrices in fewer bits are in fast/packed.py.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.direct import direct_product, direct_size
from tinystar_np.fast.layout import laid_together
from tinystar_np.fast.packed import FEW_VECTORS, in_threads, packed_product
from tinystar_np.fast.threads import blas_multiplies_directly
from tinystar_np.kernels import linear
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.packed import PackedMatrix

LEAST_WEIGHTS = 1_000_000  # a product by fewer is done before another thread has woken
ALONE = 4
"""Vectors up to which one thread multiplies them directly by a small matrix as fast as BLAS's threads do.

    ms, (960, 576) stored as (out, in)      2      4      6      8     12 vectors
    yᵀ = Wᵀ xᵀ in two threads           0.122  0.128  0.152  0.146  0.168
    direct, in one                      0.100  0.125  0.157  0.195  0.214
"""


def matmul(x: NDArray, weight: Matrix) -> NDArray:
    """Multiply vectors by a matrix: (..., in), (in, out) → (..., out), a new array."""
    # One product over all rows: NumPy would turn (B, T, in) @ (in, out) into B products.
    rows = x.reshape(-1, x.shape[-1])
    y = _product(rows, weight) if isinstance(weight, np.ndarray) else packed_product(rows, weight)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def matmul_each(x: NDArray, weights: Sequence[Matrix]) -> list[NDArray]:
    """Multiply the same vectors by several matrices; results may be parts of one array.

    Matrices that are side by side in memory (fast/layout.py) need one product.
    """
    together = laid_together(weights)
    if together is None:
        return [matmul(x, weight) for weight in weights]
    y = matmul(x, together)
    return [y[..., a:b] for a, b in pairwise(accumulate((w.shape[1] for w in weights), initial=0))]


def embedding(ids: NDArray[np.integer], table: Matrix) -> NDArray:
    """Look up rows: (...), (V, D) → (..., D). Of a packed table only these are unpacked."""
    if isinstance(table, PackedMatrix) and not table.transposed:
        return table.rows(ids)
    return linear.embedding(ids, table)


def _product(x: NDArray, weight: NDArray) -> NDArray:
    """Multiply (T, in) by a float32 matrix (in, out), which is in either memory order."""
    if not 1 < len(x) <= FEW_VECTORS:
        return x @ weight
    transposed = not weight.flags.c_contiguous
    stored = weight.T if transposed else weight
    size = direct_size(len(x), stored, transposed)
    worth_it = stored.size >= LEAST_WEIGHTS or len(x) <= ALONE or not transposed
    if size and worth_it and blas_multiplies_directly():
        direct = partial(direct_product, size=size, transposed=transposed)
        return in_threads(direct, x, stored, transposed, LEAST_WEIGHTS)
    return np.ascontiguousarray((stored @ x.T).T) if transposed else x @ weight
