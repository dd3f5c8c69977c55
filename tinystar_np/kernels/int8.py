"""8-bit weights: each output's weights as whole numbers from −127 to 127 and one scale.

    scale_o = max_i |W_io| / 127        Q_io = round(W_io / scale_o)        W_io ≈ scale_o · Q_io

An error of at most half a step, scale/2, per weight (and 2⁻¹⁶ of a step for float32's own rounding): 0.4 % of
the output's largest weight. The scale is common to all weights of an output, so it can wait until their
products are summed:

    y_o = scale_o · Σ_i x_i Q_io

Dettmers et al. 2022, arXiv:2208.07339, call the scheme vector-wise quantisation. By definition the product is
``x @ dequantise(Q, scales)``, which writes four bytes per weight to memory before it reads them again.

``int8_product`` lets memory see one byte per weight. One vector is multiplied by einsum, which widens a few
thousand numbers at a time inside one call. (A loop over blocks would do the same on one thread, but two
threads that each make thousands of short calls wait for each other's hold on Python's lock.) Several vectors
take a block of the matrix at a time, widened into a buffer that stays in the processor's cache.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK = 131_072  # weights: 512 KB when widened, which stay in a core's second-level cache


def quantise(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits.

    weight  (in, out), in any memory order

    Returns the whole numbers (in, out), and the scales (out,).
    """
    scales = np.maximum(weight.max(axis=0), -weight.min(axis=0)) / np.float32(127)
    # An output of nothing but zeros, or of numbers too small to be divided by.
    steps = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    values = np.empty(weight.shape, dtype=np.int8)
    rows = max(1, BLOCK // weight.shape[1])
    for start in range(0, len(weight), rows):
        some = slice(start, start + rows)
        values[some] = np.rint(weight[some] / steps)
    return values, steps


def dequantise(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrix (in, out) that the 8 bits stand for, in float32."""
    return values.astype(np.float32) * scales


def int8_product(x: NDArray[np.float32], values: NDArray[np.int8]) -> NDArray[np.float32]:
    """Multiply vectors by the whole numbers of an 8-bit matrix: x Q.

    x       (T, in)
    values  (in, out)

    Returns float32 (T, out), which waits for its scales.
    """
    if len(x) == 1:
        return np.einsum("i,ij->j", x[0], values)[None]
    y = np.zeros((len(x), values.shape[1]), dtype=np.float32)
    rows = max(1, BLOCK // values.shape[1])
    wide = np.empty((min(rows, len(values)), values.shape[1]), dtype=np.float32)
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        np.copyto(wide[: len(block)], block)
        y += np.dot(np.ascontiguousarray(x[:, start : start + rows]), wide[: len(block)])
    return y
