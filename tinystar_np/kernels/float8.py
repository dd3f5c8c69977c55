"""Floats of 8 bits: E4M3, with four bits of exponent and three of mantissa, and E5M2.

    E4M3   s eeee mmm   (−1)^s · 2^(e − 7) · 1.mmm,   below 2⁻⁶ evenly spaced:  (−1)^s · 2⁻⁶ · 0.mmm
    E5M2   s eeeee mm   the upper half of a float16

E4M3 has no infinity; its largest number is 448, and only the last code of each sign is NaN. There are eight
steps between powers of two, so an error is at most a sixteenth of the weight itself, where that of int8 is at
most a 254th of the largest weight with the same scale. A scale brings weights into its range: one for each
128 × 128 block (DeepSeek-V3, which was trained so), for each output, or for the whole matrix.

Micikevicius et al. 2022, arXiv:2209.05433; DeepSeek-AI 2024, arXiv:2412.19437.

>>> E4M3.decode(np.uint8([0b0_0111_000, 0b0_0111_100, 0b0_1111_110, 0b0_0000_001])).tolist()
[1.0, 1.5, 448.0, 0.001953125]
"""

import numpy as np

from tinystar_np.kernels.codes import Code


def _e4m3(code: int) -> float:
    sign, exponent, mantissa = -1.0 if code >> 7 else 1.0, code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    if exponent == 0:
        return sign * 2.0**-6 * (mantissa / 8)
    return sign * 2.0 ** (exponent - 7) * (1 + mantissa / 8)


E4M3 = Code(8, np.array([_e4m3(code) for code in range(256)], np.float32))
E5M2 = Code(8, (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32))
