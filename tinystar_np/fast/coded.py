"""Widening coded matrices (kernels/codes.py) a block of rows at a time, and summing by their scales' blocks.

16 bits are looked up at once, four weights of 4 bits or two of 8, in a table of their float32 numbers: 1 MB
or half of that, which stays in the second-level cache. Whole numbers of 8 bits need no table.

    billions of weights per second, one thread, from memory to a buffer in cache
    4 bits   16 bits at once    4.4        8 bits   16 bits at once                  2.7
             8 bits at once     3.1                 E4M3 by shifts into float16      0.5
                                                    whole numbers, by conversion    12.5

**Scales.** For one vector, the products of each block are summed first, and the sums multiplied by the
scales, which are few: y_o = Σ_b s_ob Σ_{i in b} x_i T[q_oi]. A zero point becomes one more such sum, of the
vector's own numbers: Σ_b s_ob z_ob Σ_{i in b} x_i. For many vectors it is less work to scale the weights.

    blocks of                             16     32     64    128
    sums by blocks, one vector            5.6    9.6   13.0   16.5
    scaling the widened weights           4.6    6.0    6.1    6.6

    products of one vector and (2048, 5632), billions of weights per second of one thread
    float32, from memory           7.4      MXFP4                          2.4
    int8, a scale per output       7.5      4 bits, groups of 128          3.0
    int8, groups of 128            5.9      4 bits, zero points, of 64     2.5
    int8, groups of 32             4.0      E4M3, blocks of 128 × 128      1.9

(OpenBLAS 0.3.31, NumPy 2.4, 1 MB of second-level cache; a core's own time beside other processes, medians.
float32 is limited by memory, which two threads share; the others are not.)
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import INT8, Code, whole_numbers

COPIED = {INT8: np.int8, whole_numbers(8): np.uint8}
"""Codes that NumPy converts by itself: the type that it sees them as."""
MOST_TABLES = 16  # kept, of a megabyte each; no model has more than two or three codes
FEWEST_IN_BLOCK = 16  # columns; with less, sums by blocks are slower than scaling


def decode(packed: NDArray[np.uint8], code: Code, out: NDArray[np.float32]) -> None:
    """Look up every code of some rows: bytes (n, m), into the contiguous ``out`` (n, 8 m / bits)."""
    if code in COPIED:
        np.copyto(out, packed.view(COPIED[code]))
    elif packed.shape[1] % 2 or not packed.flags.c_contiguous:
        out[...] = code.decode(packed)
    else:
        table = _table(code)
        # Any index is in the table. With "clip" NumPy writes into ``out`` itself, and not by way of a copy.
        np.take(table, packed.view("<u2"), mode="clip", out=out.view(table.dtype))


@lru_cache(MOST_TABLES)
def _table(code: Code) -> NDArray:
    """Return the numbers of every 16 bits as one element: (65536,) of 16 bytes for 4 bits, 8 for 8 bits."""
    numbers = code.decode(np.arange(1 << 16, dtype="<u2").view(np.uint8).reshape(-1, 2))
    # As complex numbers, which are not computed with: NumPy has no other elements of these sizes.
    return np.ascontiguousarray(numbers).view(np.complex128 if code.bits == 4 else np.complex64)[:, 0]


def widen(matrix: CodedMatrix, some: slice, out: NDArray[np.float32]) -> None:
    """Unpack some stored rows into a contiguous buffer (n, columns), columns in the order of storage."""
    decode(matrix.stored[some], matrix.code, out)
    scales, zeros, biases = matrix.shared(some)
    if zeros is not None:
        _by_blocks(np.subtract, out, zeros, matrix.block[1])
    _by_blocks(np.multiply, out, scales, matrix.block[1])
    if biases is not None:
        _by_blocks(np.add, out, biases, matrix.block[1])


def _by_blocks(
    operation: Callable[..., object], wide: NDArray[np.float32], per_block: NDArray[np.float32], block: int
) -> None:
    """Apply an operation to the numbers (n, columns) of each block and that of the block (n, blocks)."""
    n, columns = wide.shape
    whole = columns // block
    if whole:
        blocks = wide[:, : whole * block].reshape(n, whole, block)  # a view
        operation(blocks, per_block[:, :whole, None], out=blocks)
    if columns % block:
        rest = wide[:, whole * block :]
        operation(rest, per_block[:, whole:], out=rest)


def sums_by_blocks(matrix: CodedMatrix) -> bool:
    """Say whether the product with one vector is summed block by block."""
    return matrix.block[1] >= min(FEWEST_IN_BLOCK, matrix.columns)


def product_with_one(
    matrix: CodedMatrix, x: NDArray[np.float32], some: slice, room: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply one vector by the transpose of some stored rows, scaling the sums.

    x     (columns,), in the order of storage
    room  (n, columns), contiguous, written over

    Returns (n,).
    """
    decode(matrix.stored[some], matrix.code, room)
    scales, zeros, biases = matrix.shared(some)
    block = matrix.block[1]
    n, columns = room.shape
    whole = columns // block
    sums = np.empty((scales.shape[1], n), np.float32)
    if whole:
        blocks = room[:, : whole * block].reshape(n, whole, block).swapaxes(0, 1)
        sums[:whole] = np.matmul(blocks, x[: whole * block].reshape(whole, block, 1))[..., 0]
    if columns % block:
        np.matmul(room[:, whole * block :], x[whole * block :], out=sums[whole])
    if zeros is not None or biases is not None:
        of_vector = np.add.reduceat(x, np.arange(0, columns, block))  # (blocks,)
        if zeros is not None:
            sums -= (zeros * of_vector).T
    y: NDArray[np.float32] = np.einsum("bn,nb->n", sums, scales)
    if biases is not None:
        y += biases @ of_vector
    return y
