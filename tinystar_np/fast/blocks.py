"""Widening matrices in blocks (kernels/block_matrix.py) a part at a time, and summing before scaling.

**In long loops.** What NumPy does along the 16 or 32 bytes of a block has hardly begun when it ends. So the
same bytes of all blocks are gathered first, as one element each, which NumPy moves at once. Shifts and masks
then run over all of them in one loop, and so does their conversion to float32. Values that are no equal steps
(IQ4_NL, IQ4_XS, MXFP4) are looked up two at a time.

    billions of weights per second, one thread, Q4_0 in cache
    shifts and masks block by block, then conversion         2.4
    16 bits at a time through a table of four float32        4.0
    gathered, halves moved by 16 bytes, converted            6.6
    conversion of bytes alone                               13

**Scales last.** For one vector the products of each group are summed first, and the sums multiplied by their
scales: y_o = Σ_g s_og Σ_{i in g} x_i q_oi. A minimum needs the sums of the vector's own numbers. The rows of
a block's place are then side by side, (K, B, n, 32) for n rows of B blocks with K runs of 32: each product of
a group with its part of the vector reads one piece of memory, and so does the sum over groups. For several
vectors it is less work to scale the weights.

    sums of groups                         16     32        scaling the weights     16     32
    rows where they are stored            5.8    9.5                               4.6    5.5
    rows of a place side by side         10.2   17.0

    from memory, one vector   Q8_0  Q4_0  Q4_1  Q4_K  Q2_K  Q5_0  Q5_K  MXFP4  Q3_K  Q6_K  IQ4_NL  IQ4_XS
                               3.1   3.0   2.8   2.7   2.5   2.1   1.8    1.7   1.7   1.6     1.6     1.5
    bytes with a scale per row (kernels/int8.py)  6.3           float32  8.2

    512 vectors, of float32's speed: Q8_0, Q4_0 0.92, Q4_K, Q6_K 0.86, IQ4_XS 0.83

(matrices of 2048 × 2048 and 2048 × 5632, processor time of one core of a recent EPYC that reads 34 GB/s by
itself, NumPy 2.4, OpenBLAS 0.3.31; lower quartiles.)
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.block_forms import FORMS, float16s
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES

RUN = 32  # weights that are written at once

# A damaged scale may be infinite, and zero times it is NaN: without a warning, as in kernels/block_types.py.
quietly = np.errstate(invalid="ignore", over="ignore")


@quietly
def widen(matrix: BlockMatrix, some: slice, out: NDArray[np.float32]) -> None:
    """Unpack some stored rows into a contiguous buffer (n, columns), as ``matrix.rows`` does."""
    form = FORMS.get(matrix.element_type)
    if form is None:
        if matrix.element_type == "F16":
            np.take(float16s(), matrix.stored[some].view("<u2"), mode="clip", out=out)
        else:
            out[...] = matrix.rows(some)
        return
    blocks = _blocks(matrix, some)  # (n, B, bytes)
    n, B, _ = blocks.shape
    runs = out.reshape(n, B, -1, RUN).transpose(2, 0, 1, 3)  # (K, n, B, 32)
    form.numbers(blocks, runs)
    scales, offsets = form.scales(blocks)  # (K · r, n, B)
    K, r = len(runs), len(scales) // len(runs)
    groups = out.reshape(n, B, K, r, -1)
    groups *= scales.reshape(K, r, n, B).transpose(2, 3, 0, 1)[..., None]
    if offsets is not None:
        groups += offsets.reshape(K, r, n, B).transpose(2, 3, 0, 1)[..., None]


@quietly
def product_with_one(
    matrix: BlockMatrix, x: NDArray[np.float32], some: slice, room: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply one vector by the transpose of some stored rows, scaling the sums of groups.

    x     (columns,)
    room  (n, columns), contiguous, written over

    Returns (n,).
    """
    form = FORMS.get(matrix.element_type)
    if form is None:
        widen(matrix, some, room)
        return room @ x
    # Copied first: memory is read quickly only in its order, and what follows goes from row to row.
    blocks = _blocks(matrix, some).copy().swapaxes(0, 1)  # (B, n, bytes)
    B, n, _ = blocks.shape
    runs = room.reshape(-1, B, n, RUN)  # (K, B, n, 32)
    form.numbers(blocks, runs)
    scales, offsets = form.scales(blocks)  # (K · r, B, n)
    K, r = len(runs), len(scales) // len(runs)
    vector = x.reshape(B, K, r, -1).transpose(1, 2, 0, 3)  # (K, r, B, 32 / r)
    groups = runs.reshape(K, B, n, r, -1).transpose(0, 3, 1, 2, 4)  # (K, r, B, n, 32 / r)
    sums = np.matmul(groups, vector[..., None])
    y: NDArray[np.float32] = np.einsum("gn,gn->n", sums.reshape(-1, n), scales.reshape(-1, n))
    if offsets is not None:
        y += vector.sum(axis=-1).reshape(-1) @ offsets.reshape(-1, n)
    return y


def _blocks(matrix: BlockMatrix, some: slice) -> NDArray[np.uint8]:
    """View some rows as blocks: (n, B, bytes), B in a row."""
    part = matrix.stored[some]
    return part.reshape(len(part), -1, BLOCK_TYPES[matrix.element_type].bytes)
