"""Rounding weights to fewer bits, a block at a time, so that temporaries stay in a core's cache."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels import bfloat16, int8

BLOCK = 131_072  # numbers: 512 KB of float32


def to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16: (...) → (...) as 16-bit integers."""
    flat = np.ascontiguousarray(x).reshape(-1)
    rounded = np.empty(flat.shape, dtype=np.uint16)
    for start in range(0, flat.size, BLOCK):
        some = slice(start, start + BLOCK)
        rounded[some] = bfloat16.to_bfloat16(flat[some])
    return rounded.reshape(x.shape)


def quantise(
    weight: NDArray[np.float32], whole: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix (out, in) to 8 bits, row by row: (out, in), and the scales (out,)."""
    values, scales = np.empty(weight.shape, dtype=np.int8), np.empty(len(weight), dtype=np.float32)
    rows = max(1, BLOCK // max(1, (weight if whole is None else whole).shape[1]))
    for start in range(0, len(weight), rows):
        some = slice(start, start + rows)
        of_rows = None if whole is None else whole[some]
        values[some], scales[some] = int8.quantise(weight[some], of_rows)
    return values, scales
