"""Ternary weights: each is −1, 0 or 1 times one scale of the whole matrix, and vectors are rounded to 8 bits.

    s = mean |W|        Q = round(W / s), kept within −1 … 1        W ≈ s · Q

Three values are log₂ 3 = 1.58 bits, and a product by Q has no multiplications: inputs are added, subtracted
or left out. A model has to be trained so, with rounded weights in each forward pass and exact ones in the
optimiser; then it predicts like one of float16 weights of its size. Ma et al. 2024, arXiv:2402.17764 (BitNet
b1.58); Wang et al. 2023, arXiv:2310.11453.

What the matrix multiplies is rounded too, each vector in steps of its own:

    a = max |x| / 127        x ≈ a · round(x / a)

so that with integers inside the product is y = s a Σ_i Q_io round(x_i / a). This rounding is part of the
model as trained. It is a staircase: where a number lies on the edge of a step, the last digit of float32
decides about a whole step, and two programs that add in another order differ by that.

Four weights are packed into a byte, Q + 1 in two bits each: of a matrix of R rows, R/4 rows of bytes. Their
row r holds the weights of rows r, r + R/4, r + 2R/4 and r + 3R/4, the first in the lowest bits.
"""

import numpy as np
from numpy.typing import NDArray

LEAST = 1e-5
IN_A_BYTE = 4


def rounded_vectors(x: NDArray, largest: NDArray | None = None) -> NDArray:
    """Round each vector of the last axis to whole steps of 1/127 of its largest number.

    x        (..., D)
    largest  (..., 1), the largest absolute value, where x is a part of the vectors; None to find it

    Returns (..., D) in x's type, a new array.

    >>> rounded_vectors(np.float32([127, 0.4, -3.7])).tolist()
    [127.0, 0.0, -4.0]
    """
    if largest is None:
        largest = np.abs(x).max(axis=-1, keepdims=True)
    scale = 127 / np.maximum(largest, x.dtype.type(LEAST))
    return np.rint(x * scale) / scale


def ternary(weight: NDArray) -> tuple[NDArray[np.int8], np.float32]:
    """Round a matrix to −1, 0 and 1 and a scale: (out, in) → the same shape, and s.

    >>> values, scale = ternary(np.float32([[3, -1], [0.5, -1.5]]))
    >>> values.tolist(), float(scale)
    ([[1, -1], [0, -1]], 1.5)
    """
    scale = np.maximum(np.abs(weight).mean(dtype=np.float32), np.float32(LEAST))
    return np.clip(np.rint(weight * (1 / scale)), -1, 1).astype(np.int8), scale


def pack(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Pack ternary values, four rows into one: (rows, columns) → (rows / 4 rounded up, columns).

    >>> pack(np.int8([[-1], [0], [1], [1]])).tolist()  # 0 + 1 · 4 + 2 · 16 + 2 · 64
    [[164]]
    """
    height = -(-len(values) // IN_A_BYTE)
    packed = np.zeros((height, values.shape[1]), dtype=np.uint8)
    for i in range(IN_A_BYTE):
        part = values[i * height : (i + 1) * height]
        packed[: len(part)] |= ((part + 1) << 2 * i).astype(np.uint8)
    return packed


def unpack(packed: NDArray[np.uint8], rows: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return some rows of packed values: (R/4, columns), (...) numbers of rows → float32 (..., columns).

    >>> unpack(np.uint8([[164]]), np.arange(4)).ravel().tolist()
    [-1.0, 0.0, 1.0, 1.0]
    """
    part, row = np.divmod(rows, len(packed))
    shift = (2 * part[..., None]).astype(np.uint8)
    return ((packed[row] >> shift) & np.uint8(3)).astype(np.float32) - np.float32(1)
