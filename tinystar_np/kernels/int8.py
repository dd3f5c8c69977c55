"""8-bit weights: each output's weights as whole numbers from −127 to 127 and one scale.

    scale_o = max_i |W_oi| / 127        Q_oi = round(W_oi / scale_o)        W_oi ≈ scale_o · Q_oi

An error of at most half a step, scale/2, per weight (and 2⁻¹⁶ of a step for float32's own rounding): 0.4 % of
the output's largest weight. The scale is common to all weights of an output, so it can wait until their
products are summed:

    y_o = scale_o · Σ_i x_i Q_oi

Dettmers et al. 2022, arXiv:2208.07339, call the scheme vector-wise quantisation. By definition the product is
``x @ dequantise(Q, scales).T``, which writes four bytes per weight to memory before it reads them again;
kernels/widened.py lets memory see one byte per weight.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK = 131_072  # weights: what is computed on the way stays in cache


def quantise(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits.

    weight  (out, in), in any memory order

    Returns the whole numbers (out, in), row by row, and the scales (out,).
    """
    scales = np.maximum(weight.max(axis=1), -weight.min(axis=1)) / np.float32(127)
    # An output of nothing but zeros, or of numbers too small to be divided by.
    steps = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    values = np.empty(weight.shape, dtype=np.int8)
    rows = max(1, BLOCK // weight.shape[1])
    for start in range(0, len(weight), rows):
        some = slice(start, start + rows)
        values[some] = np.rint(weight[some] / steps[some, None])
    return values, steps


def dequantise(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrix (out, in) that the 8 bits stand for, in float32."""
    return values.astype(np.float32) * scales[:, None]


def widen(values: NDArray[np.int8], out: NDArray[np.float32]) -> None:
    """Write the whole numbers as float32, without their scales: (...) → (...)."""
    np.copyto(out, values)
