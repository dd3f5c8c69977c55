"""The memory layout of matrices: copied out of the file, transposed, or side by side, for faster products.

**Copied from the file.** A mapped file costs nothing until it is used, but may be read slowly. Where the
system keeps it in pages of 4 KB, the processor must look up at the end of each where the next one is, and
does not prefetch. Memory that a process asks for in large pieces comes in pages of 2 MB. The order within a
matrix counts as well: OpenBLAS divides the outputs among the cores, and runs of neighbours that are too short
are read slowly.

    GPT-2's 49 matrices, each times one vector (two cores, OpenBLAS 0.3.31)
    in the mapped file, small pages                       21.4 ms
    in the mapped file, large pages                       20.4 ms
    copied                                                19.8 ms
    copied, narrow and very wide ones transposed          17.9 ms

Transposing the others too, which most files store as (out, in), would make products of one vector 1.1 times
as fast, and those of sixteen texts 0.7 times.

**Side by side.** BLAS multiplies a vector by a small matrix in one thread, and one core reads memory half as
fast as two. In a small model the matrices of queries, keys and values are that small. Together they are large
enough for all threads:

    a token of a model of SmolLM2's shape (135M: 331 776 and twice 110 592 weights)   47.7 → 44.5 ms
    of a model of OLMoE's shape, narrower (three times 262 144)                        31.0 → 29.6 ms

(two cores, measured alternately). Large matrices are left where they are: nothing would be gained.

Shapes and numbers stay the same, though some sums are taken in another order.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tinystar_np.fast.machine import usable_cores
from tinystar_np.fast.mapped import keep_neighbours_out, on_file
from tinystar_np.fast.threads import divided, shares
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.packed import PackedMatrix

NARROW = 512  # columns per core: (in, out) with no more than that is transposed
VERY_WIDE = 16384  # columns: (out, in) with so many outputs is transposed
LINE = 16  # numbers of a cache line; each matrix begins at one
BAND, STRIP = 128, 512  # rows and columns of a block of a matrix that is transposed: it fits into the cache
BYTE_ROWS = (
    128  # rows of bytes that are transposed at once: 0.27 ns a byte; of one line each, 0.26; of all, 0.53
)
PORTION = 1 << 19  # numbers between two calls of ``copied``
LEAST_IN_THREADS = 460_800
"""Weights of the smallest matrix by which OpenBLAS 0.3.31 multiplies a vector in threads (gemv.c)."""

Copied = Callable[[NDArray], object]


def _nobody(portion: NDArray) -> None:
    pass


def side_by_side(matrices: Sequence[Matrix], copy: bool = True) -> list[Matrix]:
    """Lay matrices that multiply the same vectors side by side, where one product is faster than several.

    matrices  (in, out) each
    copy      whether they may be copied; otherwise only those are one product that are side by side already

    Returns copies of the same matrices, for which ``fast.matmul_each`` needs one product; or the matrices
    themselves, where they are side by side already or nothing would be gained.
    """
    arrays = [matrix for matrix in matrices if isinstance(matrix, np.ndarray)]
    if len(arrays) < len(matrices):
        return list(matrices)
    sizes = [matrix.size for matrix in arrays]
    small = sum(size for size in sizes if size < LEAST_IN_THREADS)
    if not copy or not 2 * small >= sum(sizes) >= LEAST_IN_THREADS:
        together = _in_a_row(arrays)
        if together is not None:
            _remember(arrays, together)
        return list(matrices)
    # Also where they are side by side in their file: a copy stays so when others are copied (``lay_out``).
    rows = np.concatenate([matrix.T for matrix in arrays])  # (outs, in)
    rows.flags.writeable = False
    ends = np.cumsum([matrix.shape[1] for matrix in arrays])
    parts = [part.T for part in np.split(rows, ends[:-1])]
    _remember(parts, rows.T)
    return list(parts)


def _in_a_row(matrices: Sequence[NDArray]) -> NDArray | None:
    """Return all as one matrix (in, all outputs) if they follow each other in memory, each as (out, in)."""
    first, inputs = matrices[0], matrices[0].shape[0]
    end = first.__array_interface__["data"][0]
    for matrix in matrices:
        fits = matrix.T.flags.c_contiguous and matrix.shape[0] == inputs and matrix.dtype == first.dtype
        if not fits or matrix.base is not first.base or matrix.__array_interface__["data"][0] != end:
            return None
        end += matrix.nbytes
    outputs = sum(matrix.shape[1] for matrix in matrices)
    return as_strided(first.T, (outputs, inputs), first.T.strides, writeable=False).T


_laid: dict[int, tuple[list["weakref.ref[NDArray]"], NDArray | None]] = {}
"""Matrices that are side by side and all of them as one, by the identity of the first."""


def _remember(matrices: Sequence[NDArray], together: NDArray) -> None:
    """Keep what ``laid_together`` returns, until the first matrix is freed."""
    first, *others = matrices
    # The callback is a C function: Ctrl-C within one in Python would be swallowed, and leave the entry.
    references = [weakref.ref(first, partial(_laid.pop, id(first))), *map(weakref.ref, others)]
    _laid[id(first)] = references, together


def laid_together(matrices: Sequence[Matrix]) -> NDArray | None:
    """Return the one matrix (in, all outputs) of which these are the parts in order; None for none."""
    references, together = _laid.get(id(matrices[0]), ([], None))
    same = len(references) == len(matrices)
    return together if same and all(r() is m for r, m in zip(references, matrices, strict=True)) else None


def by_columns(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy bytes (rows, bytes) so that those of a column are neighbours: the same array in another order."""
    columns = np.empty(stored.shape[::-1], np.uint8)

    def copy(some: slice) -> None:
        for start in range(some.start, some.stop, BYTE_ROWS):
            rows = slice(start, min(start + BYTE_ROWS, some.stop))
            columns[:, rows] = stored[rows].T

    divided(copy, shares(len(stored)) if stored.size >= LEAST_IN_THREADS else [slice(0, len(stored))])
    columns.flags.writeable = False
    return columns.T


def compact(array: NDArray) -> NDArray:
    """Give a part of an array memory of its own, where it lies in strips, or would keep the whole in memory.

    Rows of a mapped file stay where they are, and bring no others into memory.
    """
    whole: object = array
    while isinstance(whole, np.ndarray) and isinstance(whole.base, np.ndarray):
        whole = whole.base
    lies_together = array.flags.c_contiguous or array.flags.f_contiguous
    keeps_more = isinstance(whole, np.ndarray) and whole.nbytes > array.nbytes and not on_file(array)
    if keeps_more or not lies_together:
        return np.array(array, order="K")
    keep_neighbours_out(array)
    return array


def compact_matrix(matrix: Matrix) -> Matrix:
    """Give a part of a matrix memory of its own where ``compact`` does.

    A matrix in blocks stays in strips of its file: its first product lays it out (fast/blocks.py).
    """
    if isinstance(matrix, np.ndarray):
        return compact(matrix)
    own = copy(matrix)
    for name, value in vars(matrix).items():
        if isinstance(value, PackedMatrix):
            setattr(own, name, compact_matrix(value))
        elif isinstance(value, np.ndarray) and not (isinstance(matrix, BlockMatrix) and on_file(value)):
            setattr(own, name, compact(value))
    return own


def lay_out(matrices: Sequence[NDArray[np.float32]], copied: Copied = _nobody) -> list[NDArray[np.float32]]:
    """Copy matrices (in, out), which are in either memory order, into one piece of memory.

    copied  called with each part of a matrix that has been copied and is no longer needed

    Returns the same matrices, read-only.
    """
    if not matrices:
        return []
    targets = list(_in_one_piece(matrices))
    portions = [part for pair in zip(targets, matrices, strict=True) for part in _portions(*pair)]

    def copy(some: slice) -> None:
        for target, source in portions[some]:
            _copy(target, source)
            copied(source)

    divided(copy, shares(len(portions)))
    for target in targets:
        target.flags.writeable = False
    return targets


def _by_inputs(matrix: NDArray, narrow: int) -> bool:
    """Say whether a copy is stored as (in, out) rather than (out, in).

    narrow  the most outputs for which rows of them would be too short
    """
    outputs = matrix.shape[1]
    if outputs <= narrow:
        return False
    return outputs >= VERY_WIDE or matrix.flags.c_contiguous


def _in_one_piece(matrices: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Make room for matrices in one piece of memory, so that small ones share large pages."""
    numbers = np.empty(sum(matrix.size + LINE for matrix in matrices), np.float32)
    narrow = NARROW * usable_cores()
    start = 0
    for matrix in matrices:
        start += -numbers[start:].ctypes.data // numbers.itemsize % LINE
        room = numbers[start : start + matrix.size]
        start += matrix.size
        yield room.reshape(matrix.shape) if _by_inputs(matrix, narrow) else room.reshape(matrix.shape[::-1]).T


def _portions(
    target: NDArray[np.float32], source: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Divide a copy by the rows of the source's memory."""
    if not source.flags.c_contiguous:
        target, source = target.T, source.T
    rows = max(BAND, PORTION // max(1, source.shape[1]))
    for start in range(0, len(source), rows):
        yield target[start : start + rows], source[start : start + rows]


def _copy(target: NDArray[np.float32], source: NDArray[np.float32]) -> None:
    """Copy a row-major matrix into one in either memory order."""
    if target.flags.c_contiguous:
        target[...] = source
        return
    for row in range(0, source.shape[0], BAND):
        for column in range(0, source.shape[1], STRIP):
            part = np.s_[row : row + BAND, column : column + STRIP]
            target.T[part[::-1]] = source[part].T
