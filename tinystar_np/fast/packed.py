"""Products of vectors and packed matrices, of which a part at a time is unpacked.

A float32 copy of a whole matrix is four times as large as int8, and would be written to memory and read
again. A part of it stays in the processor's caches, so that only packed numbers are read from memory. Each
thread unpacks and multiplies its own share. Calls should be long, since threads wait for each other at
Python's lock, and BLAS wants some hundreds of outputs: ``BLOCK`` is four megabytes when unpacked. With one
thread and few vectors, a part that fits into the second-level cache is faster where that is large. Tokens/s
one at a time in int8, medians of three runs by turns, on two cores with 2 MB each:

    weights unpacked at once     2²⁰   2¹⁹   2¹⁸   2¹⁷
    GPT-2, one thread             16    17    25    24
    SmolLM2 135M, one thread      14    15    18    17
    GPT-2, two threads            23    21    22    22
    SmolLM2 135M, two threads     14    11    12    12

On an EPYC processor parts of that size were slower in one thread as well.
"""

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast import blocks, coded
from tinystar_np.fast.block_forms import FORMS
from tinystar_np.fast.direct import direct_product, direct_size
from tinystar_np.fast.machine import second_level_cache
from tinystar_np.fast.threads import blas_multiplies_directly, divided, shares
from tinystar_np.kernels import linear
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix, SomeColumns, TernaryMatrix

Vectors = NDArray[np.float32]
Rows = Callable[[NDArray, NDArray], NDArray]
Unpack = Callable[[NDArray, Vectors], None]
Part = Callable[[slice, Vectors], Vectors]

FEW_VECTORS = 48
MANY_VECTORS = 192  # from here on BLAS is as fast with the vectors on the left, which needs no transpose

LEAST_PACKED = 460_800  # from here on OpenBLAS wakes threads of its own, which keep a core from ours
BLOCK = 1 << 20  # weights that are unpacked at once
SMALL_BLOCK = 1 << 18  # the same for few vectors in one thread, with ``LARGE_CACHE``
LARGE_CACHE = 2 << 20  # bytes of the second level, which a small block fills by half
LARGEST_BLOCK = 4 * BLOCK
# Of a matrix in blocks:
PART = BLOCK // 2  # weights that are unpacked at once
LARGEST_PART = 4 * PART  # where one block of every output is more than ``PART``
LEAST_BLOCKS = 1 << 20  # weights of the smallest for which threads are worth waiting for
FEWEST_OUTPUTS = 512  # of a block, for many vectors
BLOCKS_IN_A_SHARE = 4  # of a matrix in blocks, so that threads get much the same number of them


def packed_product(x: Vectors, matrix: PackedMatrix) -> Vectors:
    """Multiply (T, in) by a packed matrix (in, out)."""
    x = np.ascontiguousarray(x)
    if isinstance(matrix, Bfloat16Matrix):
        if matrix.transposed:
            return _by_outputs(x, matrix.stored, _unpack_bfloat16)
        if len(x) <= FEW_VECTORS:
            by_inputs = partial(_by_inputs, unpack=_unpack_bfloat16)
            return in_threads(by_inputs, x, matrix.stored, False, LEAST_PACKED)
        return _by_outputs(x, matrix.stored.T, _unpack_bfloat16)
    if isinstance(matrix, Int8Matrix) and matrix.transposed:
        y = _by_outputs(x, matrix.stored, _unpack_int8)
        y *= matrix.scales
        return y
    if isinstance(matrix, TernaryMatrix) and matrix.transposed:
        return _ternary_product(x, matrix)
    if isinstance(matrix, CodedMatrix) and matrix.transposed:
        return _coded_product(x, matrix)
    if isinstance(matrix, BlockMatrix) and matrix.transposed:
        return _product_with_blocks(x, matrix)
    if isinstance(matrix, MatrixInTurns):
        return _product_in_turns(x, matrix)
    if isinstance(matrix, SomeColumns):
        if matrix.transposed:
            return packed_product(matrix.spread(x), matrix.matrix)
        return packed_product(x, matrix.matrix)[:, matrix.places]
    return linear.matmul(x, matrix)


def _unpack_bfloat16(bits: NDArray[np.uint16], out: Vectors) -> None:
    wide = out.view(np.uint32)
    np.copyto(wide, bits)
    wide <<= np.uint32(16)


def _unpack_int8(values: NDArray[np.int8], out: Vectors) -> None:
    np.copyto(out, values)  # without their scales, which wait until the products are summed


def _ternary_product(x: Vectors, matrix: TernaryMatrix) -> Vectors:
    """Multiply (T, in) by the transpose of ternary rows, a quarter of the outputs after the other.

    Bits are 0, 1 and 2: the sum of each vector is taken away afterwards, and the scale waits as well. One
    vector and a matrix (6912, 2560): 2.9 ms, unpacked as a whole 49 ms, in float32 2.0 ms.
    """

    def unpack(shift: int, packed: NDArray[np.uint8], out: Vectors) -> None:
        np.copyto(out, (packed >> np.uint8(shift)) & np.uint8(3))

    quarters = [_by_outputs(x, matrix.stored, partial(unpack, shift)) for shift in (0, 2, 4, 6)]
    y = np.concatenate(quarters, axis=1)[:, : matrix.outputs]
    y -= x.sum(axis=1, keepdims=True)
    y *= matrix.scale
    return y


def _by_outputs(x: Vectors, stored: NDArray, unpack: Unpack) -> Vectors:
    """Multiply (T, in) by the transpose of packed numbers (out, in), which are in either memory order."""

    def unpacked(some: slice, room: Vectors) -> Vectors:
        part = stored[some]
        # In the order of the packed numbers themselves.
        wide = room.reshape(part.shape) if part.flags.c_contiguous else room.reshape(part.shape[::-1]).T
        unpack(part, wide)
        return wide

    return _in_blocks(x, len(stored), lambda some, room: _wide_product(x, unpacked(some, room)))


def _coded_product(x: Vectors, matrix: CodedMatrix) -> Vectors:
    """Multiply (T, in) by the transpose of the stored rows of a coded matrix (fast/coded.py)."""
    if matrix.order is not None:
        x = x[:, matrix.order]
    shape = (-1, matrix.columns)

    def with_one(some: slice, room: Vectors) -> Vectors:
        return coded.product_with_one(matrix, x[0], some, room.reshape(shape))[None]

    def with_many(some: slice, room: Vectors) -> Vectors:
        wide = room.reshape(shape)
        coded.widen(matrix, some, wide)
        return _wide_product(x, wide)

    one = len(x) == 1 and coded.sums_by_blocks(matrix)
    return _in_blocks(x, len(matrix.stored), with_one if one else with_many)


def _product_with_blocks(x: Vectors, matrix: BlockMatrix) -> Vectors:
    """Multiply (T, in) by the transpose of the stored rows of a matrix in blocks (fast/blocks.py).

    For few vectors threads share the inputs: so each reads memory in its order. With many, the sums of the
    outputs would be written and read too often.
    """
    inputs, outputs = matrix.shape
    if matrix.element_type not in FORMS:
        return _in_blocks(x, outputs, lambda some, room: _with_rows(x, matrix, some, room))
    blocks.lay_by_columns(matrix)
    weights = BLOCK_TYPES[matrix.element_type].weights
    count = inputs // weights
    if len(x) > FEW_VECTORS:

        def of_outputs(some: slice, room: Vectors) -> Vectors:
            wide = room.reshape(inputs, -1)
            blocks.widen(matrix, slice(0, count), some, wide)
            return x @ wide

        return _in_blocks(x, outputs, of_outputs)
    every_output, every_block = slice(0, outputs), slice(0, count)
    if inputs * outputs < LEAST_BLOCKS:
        return _sums_of_blocks(x, matrix, every_block, every_output)
    parts = shares(count)
    if count < BLOCKS_IN_A_SHARE * len(parts):
        of_some = divided(lambda rows: _sums_of_blocks(x, matrix, every_block, rows), shares(outputs))
        return np.concatenate(of_some, axis=1)
    return _summed(divided(lambda some: _sums_of_blocks(x, matrix, some, every_output), parts))


def _product_in_turns(x: Vectors, matrix: MatrixInTurns) -> Vectors:
    """Multiply (T, in) by a matrix that is made of others: one product with each, so that all are quick."""
    turns = len(matrix.parts)
    parts = [part if part.transposed == matrix.transposed else part.T for part in matrix.parts]
    if not matrix.transposed:  # its inputs alternate
        return _summed([packed_product(x[:, turn::turns], part) for turn, part in enumerate(parts)])
    y = np.empty((len(x), matrix.shape[1]), np.float32)
    for turn, part in enumerate(parts):
        y[:, turn::turns] = packed_product(x, part)
    return y


def _with_rows(x: Vectors, matrix: BlockMatrix, some: slice, room: Vectors) -> Vectors:
    wide = room.reshape(-1, matrix.columns)
    blocks.widen_rows(matrix, some, wide)
    return _wide_product(x, wide)


def _sums_of_blocks(x: Vectors, matrix: BlockMatrix, some: slice, rows: slice) -> Vectors:
    """Multiply few vectors by some blocks of some stored rows: (T, in) → these blocks' share of (T, n)."""
    weights = BLOCK_TYPES[matrix.element_type].weights
    x = x[:, some.start * weights : some.stop * weights]
    y = np.zeros((len(x), rows.stop - rows.start), np.float32)
    width = min(y.shape[1], max(1, LARGEST_PART // weights))
    height = min(max(1, PART // (weights * max(1, width))), some.stop - some.start)
    room = _buffer(height * weights * width)
    for left in range(rows.start, rows.stop, width):
        outputs = slice(left, min(left + width, rows.stop))
        n = outputs.stop - left
        into = y[:, left - rows.start : outputs.stop - rows.start]
        if len(x) == 1:
            wide = room[: height * weights * n].reshape(-1, n)
            into[0] = blocks.product_with_one(matrix, x[0], some, outputs, wide)
        else:
            for top in range(some.start, some.stop, height):
                part = slice(top, min(top + height, some.stop))
                inputs = slice((top - some.start) * weights, (part.stop - some.start) * weights)
                wide = room[: (inputs.stop - inputs.start) * n].reshape(-1, n)
                blocks.widen(matrix, part, outputs, wide)
                size = direct_size(len(x), wide, False) if blas_multiplies_directly() else 0
                into += direct_product(x[:, inputs], wide, size, False) if size else x[:, inputs] @ wide
    return y


def _in_blocks(x: Vectors, outputs: int, product: Part) -> Vectors:
    """Compute a product (T, out) some outputs at a time, each thread its own share.

    product  maps a run of n outputs and room for n · in numbers to (T, n)
    """
    inputs = x.shape[1]
    y = np.empty((len(x), outputs), dtype=np.float32)
    least = FEWEST_OUTPUTS if len(x) >= MANY_VECTORS else 1
    threads = shares(outputs) if outputs * inputs >= LEAST_PACKED else [slice(0, outputs)]
    is_small = len(x) <= FEW_VECTORS and len(threads) == 1 and second_level_cache() >= LARGE_CACHE
    block = SMALL_BLOCK if is_small else BLOCK
    size = max(1, min(max(block // max(1, inputs), least), LARGEST_BLOCK // max(1, inputs)))

    def fill(share: slice) -> None:
        for start in range(share.start, share.stop, size):
            some = slice(start, min(start + size, share.stop))
            room = _buffer(min(size, share.stop - share.start) * inputs)
            y[:, some] = product(some, room[: (some.stop - start) * inputs])

    divided(fill, threads)
    return y


def _wide_product(x: Vectors, wide: Vectors) -> Vectors:
    """Multiply (T, in) by the transpose of unpacked rows (n, in), in either memory order: (T, n)."""
    parts = direct_size(len(x), wide, True) if blas_multiplies_directly() else 0
    if parts:
        return direct_product(x, wide, parts, True)
    return (wide @ x.T).T if 1 < len(x) < MANY_VECTORS else x @ wide.T


def _by_inputs(x: Vectors, stored: NDArray, unpack: Unpack) -> Vectors:
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


def _buffer(numbers: int) -> Vectors:
    """Return this thread's buffer: 4 to 16 MB, kept until the thread ends."""
    if _buffers.numbers.size < numbers:
        _buffers.numbers = np.empty(numbers, dtype=np.float32)
    return _buffers.numbers


def in_threads(multiply: Rows, x: NDArray, stored: NDArray, transposed: bool, least: int) -> NDArray:
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
    return _summed(divided(lambda some: multiply(x[:, some], stored[some]), rows))


def _summed(results: list[NDArray]) -> NDArray:
    """Add up results of the same outputs, in the first of them."""
    first, *others = results
    for other in others:
        first += other
    return first
