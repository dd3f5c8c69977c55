"""Widening matrices in blocks (kernels/block_matrix.py) laid out by columns, and scaling sums of groups.

**By columns.** A file has the bytes of a block side by side, and NumPy's loops along the 16 or 32 bytes that
have a common meaning end when they have hardly begun. So with its first product a matrix is copied to where
the same byte of all rows is one row of memory, (B · bytes, out). It has as many bytes as before and the same
shape; only their order in memory has changed. Shifts and masks then run over all outputs in one loop, and so
do the conversion to float32 and the scales. Each thread copies 4 GB/s, and files are seldom read faster.
Where memory is short, a matrix stays in its file, and parts of it are copied each time.

**Scales last.** For one vector the products of each group are summed first, and the sums multiplied by their
scales: y_o = Σ_g s_og Σ_{i in g} x_i q_oi. A minimum needs the sums of the vector's own numbers. For several
vectors it is less work to scale the weights.

Scales are read for a thread's whole share at once: threads that often want Python's lock wait for each other.
Values that are no equal steps (IQ4_NL, IQ4_XS, MXFP4) are looked up for two outputs at a time.

    billions of weights per second of one thread, one vector, from memory
    float32 8.5, int8 with a scale per row 7.6
    Q8_0 4.7, Q4_K 4.5, Q4_0 4.0, Q2_K 3.9, Q4_1 3.7, Q5_K, Q6_K 3.5, Q3_K 3.2, Q5_0 2.6, IQ4, MXFP4 2.2
    of which a weight of Q8_0 takes, in nanoseconds: conversion 0.08, products 0.05, scales 0.03

(matrices of 2048 × 5632, one core of a recent EPYC, NumPy 2.4, OpenBLAS 0.3.31. float32 is limited by memory,
which two threads share; the others are not: benchmarks/packed.py compares whole models.)
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.block_forms import FORMS, Bytes, float16s
from tinystar_np.fast.layout import by_columns
from tinystar_np.fast.machine import usable_memory
from tinystar_np.fast.mapped import let_go
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES

LEFT_FREE = 2 << 30  # bytes of memory that copies leave to others

# A damaged scale may be infinite, and zero times it is NaN: without a warning, as in kernels/block_types.py.
quietly = np.errstate(invalid="ignore", over="ignore")


def is_by_columns(matrix: BlockMatrix) -> bool:
    """Say whether the same byte of all rows is one row of memory."""
    return matrix.stored.strides[0] == 1


def lay_by_columns(matrix: BlockMatrix) -> None:
    """Copy the bytes of a matrix so that it is laid out by columns, if it is not, and if there is room."""
    stored = matrix.stored
    if is_by_columns(matrix) or matrix.element_type not in FORMS:
        return
    free = usable_memory()
    if free is None or free > stored.nbytes + LEFT_FREE:
        matrix.stored = by_columns(stored)
        let_go(stored)


def _columns(matrix: BlockMatrix, some: slice, rows: slice) -> Bytes:
    """Return some blocks of some rows by columns: (B, bytes, n)."""
    size = BLOCK_TYPES[matrix.element_type].bytes
    part = matrix.stored[rows, some.start * size : some.stop * size]
    if part.strides[0] != 1:
        part = by_columns(part)
    return part.T.reshape(some.stop - some.start, size, -1)


@quietly
def widen(matrix: BlockMatrix, some: slice, rows: slice, out: NDArray[np.float32]) -> None:
    """Unpack some blocks of some rows of a type with groups.

    some  the blocks, B of those in a row
    rows  n of the stored rows
    out   (B · weights, n), contiguous, written over
    """
    form = FORMS[matrix.element_type]
    columns = _columns(matrix, some, rows)
    B, n = len(columns), columns.shape[-1]
    form.numbers(columns, out.reshape(B, -1, n))
    scales, offsets = form.scales(columns)  # (B, groups, n)
    groups = out.reshape(*scales.shape[:2], -1, n)
    groups *= scales[:, :, None]
    if offsets is not None:
        groups += offsets[:, :, None]


def widen_rows(matrix: BlockMatrix, rows: slice, out: NDArray[np.float32]) -> None:
    """Unpack some stored rows of a type without groups into a contiguous buffer (n, columns)."""
    if matrix.element_type == "F16":
        np.take(float16s(), matrix.stored[rows].view("<u2"), mode="clip", out=out)
    else:
        out[...] = matrix.rows(rows)


@quietly
def product_with_one(
    matrix: BlockMatrix, x: NDArray[np.float32], some: slice, rows: slice, room: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply a part of one vector by the transpose of some blocks of some rows, scaling the sums of groups.

    x     (B · weights,), what these blocks are multiplied by
    some  the blocks, B of those in a row
    rows  n of the stored rows
    room  (b · weights, n) for the numbers of b blocks at once, contiguous, written over

    Returns these blocks' share of each output (n,).
    """
    form = FORMS[matrix.element_type]
    columns = _columns(matrix, some, rows)
    B, n = len(columns), columns.shape[-1]
    scales, offsets = form.scales(columns)  # (B, groups, n)
    groups = scales.shape[1]
    vector = x.reshape(B, groups, 1, -1)
    sums = np.empty((B, groups, 1, n), np.float32)
    numbers = room.reshape(-1, x.size // B, n)  # (b, weights, n)
    for start in range(0, B, len(numbers)):
        part = slice(start, min(start + len(numbers), B))
        wide = numbers[: part.stop - start]
        form.numbers(columns[part], wide)
        np.matmul(vector[part], wide.reshape(len(wide), groups, -1, n), out=sums[part])
    y: NDArray[np.float32] = np.einsum("gn,gn->n", sums.reshape(-1, n), scales.reshape(-1, n))
    if offsets is not None:
        y += vector.sum(axis=-1).reshape(-1) @ offsets.reshape(-1, n)
    return y
