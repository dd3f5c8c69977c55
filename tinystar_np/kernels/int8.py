"""8-bit weights: each output's weights as whole numbers from −127 to 127 and one scale.

    scale_o = max_i |W_io| / 127        Q_io = round(W_io / scale_o)        W_io ≈ scale_o · Q_io

An error of at most half a step, scale/2, per weight: 0.4 % of the output's largest weight. The scale is
common to all weights of an output, so it can wait until their products are summed:

    y_o = scale_o · Σ_i x_i Q_io

``int8_product`` widens a block of rows at a time into a float32 buffer that stays in the processor's
cache, so that memory sees one byte per weight. Dettmers et al. 2022, arXiv:2208.07339, call the scheme
vector-wise quantisation.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 256


def quantise(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits.

    weight  (rows, columns)
    axis    the axis of the inputs, along which the largest weight is taken: 0 for (in, out), 1 for (out, in)

    Returns the whole numbers, in the weight's shape, and the scales, (out,).
    """
    scales = np.max(np.abs(weight), axis=axis) / np.float32(127)
    steps = np.where(scales == 0, np.float32(1), scales)  # an output of nothing but zeros
    values = np.rint(weight / np.expand_dims(steps, axis)).astype(np.int8)
    return values, steps


def dequantise(values: NDArray[np.int8], scales: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the matrix that the 8 bits stand for, in float32."""
    return values.astype(np.float32) * np.expand_dims(scales, axis)


def int8_product(
    x: NDArray[np.float32], values: NDArray[np.int8], scales: NDArray[np.float32], *, transposed: bool
) -> NDArray[np.float32]:
    """Multiply vectors by an 8-bit matrix: x W, where W or its transpose is stored.

    x           (T, in)
    values      (in, out), or (out, in) with ``transposed``
    scales      (out,)
    transposed  whether the stored matrix is the transpose of the one to multiply by

    Returns float32 (T, out): x times the dequantised matrix.
    """
    buffer = np.empty((min(BLOCK_ROWS, len(values)), values.shape[1]), dtype=np.float32)
    y = np.zeros((len(x), len(scales)), dtype=np.float32)
    for start in range(0, len(values), BLOCK_ROWS):
        block = values[start : start + BLOCK_ROWS]
        wide = buffer[: len(block)]
        np.copyto(wide, block)
        if transposed:  # a block of outputs, from all inputs
            y[:, start : start + BLOCK_ROWS] = x @ wide.T
        else:  # a block of inputs, to all outputs
            y += np.ascontiguousarray(x[:, start : start + BLOCK_ROWS]) @ wide
    y *= scales
    return y
