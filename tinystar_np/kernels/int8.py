"""8-bit weights: each output's weights as whole numbers from −127 to 127 and one scale.

    scale_o = max_i |W_oi| / 127        Q_oi = round(W_oi / scale_o)        W_oi ≈ scale_o · Q_oi

An error of at most half a step, scale/2, per weight (and 2⁻¹⁶ of a step for float32's own rounding): 0.4 % of
the output's largest weight. The scale is common to all weights of an output, so the sum is multiplied by it:

    y_o = scale_o · Σ_i x_i Q_oi

Dettmers et al. 2022, arXiv:2208.07339, call the scheme vector-wise quantisation.
"""

import numpy as np
from numpy.typing import NDArray


def quantise(
    weight: NDArray[np.float32], whole: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits.

    weight  (out, in)
    whole   (out, more in), the rows of which ``weight`` has some columns: then the scales are those of whole
            rows, and so are the numbers

    Returns the whole numbers (out, in) and the scales (out,).

    >>> values, scales = quantise(np.float32([[254, -100, 0.5]]))
    >>> values.tolist(), scales.tolist()  # in steps of 254/127 = 2
    ([[127, -50, 0]], [2.0])
    """
    scales = np.max(np.abs(weight if whole is None else whole), axis=1) / np.float32(127)
    # Where all weights are zero, or too small to divide by, the scale is 1.
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    return np.rint(weight / scales[:, None]).astype(np.int8), scales


def dequantise(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the float32 weights of whole numbers and their scales: (..., in), (...) → (..., in).

    >>> dequantise(np.int8([[127, -50, 0]]), np.float32([2])).tolist()
    [[254.0, -100.0, 0.0]]
    """
    return values.astype(np.float32) * scales[..., None]
