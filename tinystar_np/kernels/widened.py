"""Products by matrices of a narrow type: a part becomes float32, is multiplied by, and is forgotten.

By definition, ``x @ widened(W)``. A float32 copy of the whole matrix is four times as large as int8 and twice
as large as bfloat16, and it is written to memory and read again. A part stays in the processor's caches, and
memory sees the narrow numbers alone.

    y_o = Σ_i x_i W_oi      ``by_outputs``: a part gives some of the outputs
    y   = Σ_i x_i W_i       ``by_inputs``: a part adds some inputs' share to every output

The first is for any number of vectors. Where each input's weights follow each other in memory, a part of the
outputs is scattered, and for few vectors the second is faster.

How large a part is has two sides. Threads that compute by turns in NumPy and in Python wait for each other's
hold on Python's lock, so calls should be long; and BLAS wants some hundreds of outputs for many vectors.
``BLOCK`` is four megabytes when widened. Smaller parts, which fit into the second-level cache, were slower
even in one thread: int8 became float32 at 7 billion a second in a buffer within it, at 12 in a larger one
(AMD Zen 5, 1 MB).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.linear import direct_product, direct_size

Widen = Callable[[NDArray, NDArray[np.float32]], object]
"""Writes narrow numbers (...) into a float32 array (...) as it stands."""

BLOCK = 1 << 20  # weights
MANY_ROWS = 192  # from here on BLAS is as fast with the vectors on the left, which needs no transpose
FEWEST_OUTPUTS = 512  # of a part, for many vectors
LARGEST_BLOCK = 4 * BLOCK


def block_size(rows: int, inputs: int) -> int:
    """Say how many outputs a part shall have.

    rows    T, the vectors to multiply
    inputs  of each output
    """
    least = FEWEST_OUTPUTS if rows >= MANY_ROWS else 1
    return max(1, min(max(BLOCK // max(1, inputs), least), LARGEST_BLOCK // max(1, inputs)))


def by_outputs(
    x: NDArray[np.float32],
    matrix: NDArray,
    widen: Widen,
    buffer: NDArray[np.float32],
    y: NDArray[np.float32],
    *,
    scales: NDArray[np.float32] | None = None,
    directly: bool = False,
) -> None:
    """Multiply vectors by a narrow matrix, some outputs at a time: y = x Wᵀ · scales.

    x         (T, in)
    matrix    W (out, in), row by row or column by column
    widen     from the matrix's type to float32
    buffer    at least ``block_size`` times ``in`` numbers, to be written over
    y         (T, out), which receives the products
    scales    (out,), or None for 1
    directly  whether BLAS multiplies by small matrices from where they lie, see ``direct_product``
    """
    outputs, inputs = matrix.shape
    size = block_size(len(x), inputs)
    for start in range(0, outputs, size):
        some = slice(start, min(start + size, outputs))
        part = matrix[some]
        room = buffer[: part.size]
        # In the order of the matrix itself.
        wide = room.reshape(part.shape) if part.flags.c_contiguous else room.reshape(part.shape[::-1]).T
        widen(part, wide)
        parts = direct_size(len(x), wide, True) if directly else 0
        if parts:
            y[:, some] = direct_product(x, wide, parts, True)
        elif 1 < len(x) < MANY_ROWS:
            y[:, some] = (wide @ x.T).T
        else:
            np.matmul(x, wide.T, out=y[:, some])
        if scales is not None:
            y[:, some] *= scales[some]


def by_inputs(
    x: NDArray[np.float32], matrix: NDArray, widen: Widen, buffer: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply vectors by a narrow matrix, some inputs at a time: x W.

    x       (T, in)
    matrix  W (in, out), row by row
    widen   from the matrix's type to float32
    buffer  at least BLOCK numbers, and ``out``, to be written over

    Returns (T, out), a new array.
    """
    inputs, outputs = matrix.shape
    size = max(1, BLOCK // max(1, outputs))
    y = np.zeros((len(x), outputs), dtype=np.float32)
    for start in range(0, inputs, size):
        part = matrix[start : start + size]
        wide = buffer[: part.size].reshape(part.shape)
        widen(part, wide)
        y += x[:, start : start + size] @ wide
    return y
