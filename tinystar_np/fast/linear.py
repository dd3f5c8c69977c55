"""Products of vectors and large matrices, in the form and number of threads that is fastest for their number.

**One vector** is left to BLAS: a product reads every weight once, in its own threads.

**A few vectors** (a short prompt, several texts, guesses that are checked). BLAS copies every block of a
large matrix into another order before it multiplies, which for a few vectors is most of the work.
``_direct_product`` cuts the matrix into parts so small that OpenBLAS does not copy them, on processors with
AVX-512; on others it copies them all the same.

    billions of weights per second; two cores, OpenBLAS 0.3.31
                                         vectors    2     4     8    12
    stored as (out, in) = (8192, 2048), yᵀ = Wᵀ xᵀ  2.0   1.7   1.6   1.5
                                            direct  4.4   3.7   2.8   2.5
    stored as (in, out) = (768, 3072),       plain  1.7   1.6   1.5   1.3
                                            direct  2.7   2.1   2.9   2.1

Up to 48 vectors something helps less: where the matrix is stored as (out, in), the product is computed as
yᵀ = Wᵀ xᵀ, and BLAS copies less of the large matrix (1.2 to 1.7 times as fast with AVX-512).

**Packed matrices.** A float32 copy of a whole matrix is four times as large as int8, and would be written to
memory and read again. A part of it stays in the processor's caches, so that only packed numbers are read from
memory. Each thread unpacks and multiplies its own share. Calls should be long, since threads wait for each
other at Python's lock, and BLAS wants some hundreds of outputs: ``BLOCK`` is four megabytes when unpacked.
Parts that fit into the second-level cache were slower even in one thread.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast import blocks, coded
from tinystar_np.fast.layout import laid_together
from tinystar_np.fast.threads import blas_multiplies_directly, divided, shares
from tinystar_np.kernels import linear
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.packed import Bfloat16Matrix, CodedMatrix, Int8Matrix, PackedMatrix

Rows = Callable[[NDArray, NDArray], NDArray]
Unpack = Callable[[NDArray, NDArray[np.float32]], None]
Scaled = TypeVar("Scaled", bound=PackedMatrix)

FEW_VECTORS = 48
MOST_DIRECT_VECTORS = 12
MANY_VECTORS = 192  # from here on BLAS is as fast with the vectors on the left, which needs no transpose

# Products that OpenBLAS counts as small (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c):
MOST_MULTIPLICATIONS = 1_000_000
MOST_RESULTS = 1200  # where the second matrix is a transpose
LEAST_OUTPUTS = 8  # of a small matrix
MOST_PARTIAL_SUMS = 0.5  # per weight: they are written to memory and read again

LEAST_WEIGHTS = 1_000_000  # a product by fewer is done before another thread has woken
LEAST_PACKED = 460_800  # from here on OpenBLAS wakes threads of its own, which keep a core from ours
BLOCK = 1 << 20  # weights that are unpacked at once
LARGEST_BLOCK = 4 * BLOCK
FEWEST_OUTPUTS = 512  # of a block, for many vectors


def matmul(x: NDArray, weight: Matrix) -> NDArray:
    """Multiply vectors by a matrix: (..., in), (in, out) → (..., out), a new array."""
    # One product over all rows: NumPy would turn (B, T, in) @ (in, out) into B products.
    rows = x.reshape(-1, x.shape[-1])
    y = _product(rows, weight) if isinstance(weight, np.ndarray) else _packed_product(rows, weight)
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
    size = _direct_size(len(x), stored, transposed)
    if size and blas_multiplies_directly():
        direct = partial(_direct_product, size=size, transposed=transposed)
        return _in_threads(direct, x, stored, transposed, LEAST_WEIGHTS)
    return np.ascontiguousarray((stored @ x.T).T) if transposed else x @ weight


def _direct_size(vectors: int, stored: NDArray, transposed: bool) -> int:
    """Return how many rows of ``stored`` a part of ``_direct_product`` has; 0 where it is not worth it."""
    if not 1 < vectors <= MOST_DIRECT_VECTORS or not stored.size or not stored.flags.c_contiguous:
        return 0
    size = MOST_MULTIPLICATIONS // (vectors * stored.shape[1])
    if transposed:
        size = min(size, MOST_RESULTS // vectors)
        return size if size >= LEAST_OUTPUTS else 0
    return size if size * MOST_PARTIAL_SUMS >= vectors else 0


def _direct_product(x: NDArray, stored: NDArray, size: int, transposed: bool) -> NDArray:
    """Multiply few vectors by a matrix in small parts.

    x           (T, in)
    stored      (in, out), or (out, in) with ``transposed``; contiguous
    size        rows of ``stored`` in each part, from ``_direct_size``
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


def _in_threads(multiply: Rows, x: NDArray, stored: NDArray, transposed: bool, least: int) -> NDArray:
    """Multiply vectors by a matrix whose stored rows are divided among threads.

    multiply  maps vectors (T, in) and some of the rows to (T, out): those rows' outputs, or their inputs'
              share of every output
    least     the fewest weights for which more than one thread is used
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


def _packed_product(x: NDArray[np.float32], matrix: PackedMatrix) -> NDArray[np.float32]:
    """Multiply (T, in) by a packed matrix (in, out)."""
    x = np.ascontiguousarray(x)
    if isinstance(matrix, Bfloat16Matrix):
        if matrix.transposed:
            return _by_outputs(x, matrix.stored, _unpack_bfloat16)
        if len(x) <= FEW_VECTORS:
            by_inputs = partial(_by_inputs, unpack=_unpack_bfloat16)
            return _in_threads(by_inputs, x, matrix.stored, False, LEAST_PACKED)
        return _by_outputs(x, matrix.stored.T, _unpack_bfloat16)
    if isinstance(matrix, Int8Matrix) and matrix.transposed:
        y = _by_outputs(x, matrix.stored, _unpack_int8)
        y *= matrix.scales
        return y
    if isinstance(matrix, CodedMatrix) and matrix.transposed:
        if matrix.order is not None:
            x = x[:, matrix.order]
        with_one = coded.product_with_one if coded.sums_by_blocks(matrix) else None
        return _scaled_product(x, matrix, coded.widen, with_one)
    if isinstance(matrix, BlockMatrix) and matrix.transposed:
        return _scaled_product(x, matrix, blocks.widen, blocks.product_with_one)
    return linear.matmul(x, matrix)


def _unpack_bfloat16(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    wide = out.view(np.uint32)
    np.copyto(wide, bits)
    wide <<= np.uint32(16)


def _unpack_int8(values: NDArray[np.int8], out: NDArray[np.float32]) -> None:
    np.copyto(out, values)  # without their scales, which wait until the products are summed


def _by_outputs(x: NDArray[np.float32], stored: NDArray, unpack: Unpack) -> NDArray[np.float32]:
    """Multiply (T, in) by the transpose of packed numbers (out, in), which are in either memory order."""

    def unpacked(some: slice, room: NDArray[np.float32]) -> NDArray[np.float32]:
        part = stored[some]
        # In the order of the packed numbers themselves.
        wide = room.reshape(part.shape) if part.flags.c_contiguous else room.reshape(part.shape[::-1]).T
        unpack(part, wide)
        return wide

    return _in_blocks(x, len(stored), lambda some, room: _wide_product(x, unpacked(some, room)))


def _scaled_product(
    x: NDArray[np.float32],
    matrix: Scaled,
    widen: Callable[[Scaled, slice, NDArray[np.float32]], None],
    product_with_one: Callable[[Scaled, NDArray, slice, NDArray[np.float32]], NDArray[np.float32]] | None,
) -> NDArray[np.float32]:
    """Multiply (T, in) by the transpose of the stored rows of a matrix with scales along its rows.

    widen             unpacks some rows into (n, in), see fast/coded.py and fast/blocks.py
    product_with_one  multiplies one vector by some rows, with room for (n, in), if that is quicker
    """
    shape = (-1, matrix.columns)

    def with_one(some: slice, room: NDArray[np.float32]) -> NDArray[np.float32]:
        assert product_with_one
        return product_with_one(matrix, x[0], some, room.reshape(shape))[None]

    def with_many(some: slice, room: NDArray[np.float32]) -> NDArray[np.float32]:
        wide = room.reshape(shape)
        widen(matrix, some, wide)
        return _wide_product(x, wide)

    one = len(x) == 1 and product_with_one
    return _in_blocks(x, len(matrix.stored), with_one if one else with_many)


def _in_blocks(
    x: NDArray[np.float32], outputs: int, product: Callable[[slice, NDArray[np.float32]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Compute a product (T, out) some outputs at a time, each thread its own share.

    product  maps a run of n outputs and room for n · in numbers to (T, n)
    """
    inputs = x.shape[1]
    y = np.empty((len(x), outputs), dtype=np.float32)
    least = FEWEST_OUTPUTS if len(x) >= MANY_VECTORS else 1
    size = max(1, min(max(BLOCK // max(1, inputs), least), LARGEST_BLOCK // max(1, inputs)))

    def fill(share: slice) -> None:
        for start in range(share.start, share.stop, size):
            some = slice(start, min(start + size, share.stop))
            room = _buffer(min(size, share.stop - share.start) * inputs)
            y[:, some] = product(some, room[: (some.stop - start) * inputs])

    divided(fill, shares(outputs) if outputs * inputs >= LEAST_PACKED else [slice(0, outputs)])
    return y


def _wide_product(x: NDArray[np.float32], wide: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply (T, in) by the transpose of unpacked rows (n, in), in either memory order: (T, n)."""
    parts = _direct_size(len(x), wide, True) if blas_multiplies_directly() else 0
    if parts:
        return _direct_product(x, wide, parts, True)
    return (wide @ x.T).T if 1 < len(x) < MANY_VECTORS else x @ wide.T


def _by_inputs(x: NDArray[np.float32], stored: NDArray, unpack: Unpack) -> NDArray[np.float32]:
    """Multiply (T, in) by packed numbers (in, out), some inputs at a time: each adds to every output."""
    inputs, outputs = stored.shape
    size = max(1, BLOCK // max(1, outputs))
    y = np.zeros((len(x), outputs), dtype=np.float32)
    for start in range(0, inputs, size):
        part = stored[start : start + size]
        wide = _buffer(min(max(BLOCK, outputs), stored.size))[: part.size].reshape(part.shape)
        unpack(part, wide)
        y += x[:, start : start + size] @ wide
    return y


class _Buffers(threading.local):
    """One buffer per thread: fresh memory for each product would cost more than the unpacking."""

    numbers = np.empty(0, dtype=np.float32)


_buffers = _Buffers()


def _buffer(numbers: int) -> NDArray[np.float32]:
    """Return this thread's buffer: 4 to 16 MB, kept until the thread ends."""
    if _buffers.numbers.size < numbers:
        _buffers.numbers = np.empty(numbers, dtype=np.float32)
    return _buffers.numbers
