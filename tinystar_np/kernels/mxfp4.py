"""MXFP4: floats of 4 bits, 32 of which share a power of two.

    W = E2M1[q] · 2^(e − 127)         q: 4 bits of each weight; e: 8 bits of each 32 neighbours

A float of 4 bits has a sign, two bits of exponent and one of mantissa, E2M1, so there are eight sizes:

    code     0   1    2   3    4   5   6   7         codes 8 to 15: the same with a minus sign
    number   0   0.5  1   1.5  2   3   4   6

They lie closer together near 0, where most weights are. The scale is a bare exponent, E8M0: multiplying by
it loses nothing, so every weight is exact in bfloat16. 4.25 bits a weight. gpt-oss was trained so that its
experts, nine tenths of all its weights, are exact in this type.

Open Compute Project, Microscaling Formats (MX) Specification 1.0, 2023; Rouhani et al. 2023,
arXiv:2310.10537. Exponent 255 stands for NaN.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.codes import Code, spread

BLOCK = 32
"""Neighbouring weights that share an exponent."""
SIZES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1 = Code(4, np.array([*SIZES, *(-size for size in SIZES)], np.float32))
"""Floats of 4 bits."""
E8M0 = Code(8, np.array([*(2.0 ** (e - 127) for e in range(255)), np.nan], np.float32))
"""Powers of two from 2⁻¹²⁷ to 2¹²⁷, the last code NaN."""


def dequantise(codes: NDArray[np.uint8], exponents: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the weights of codes and their blocks' exponents.

    codes      (..., in / 2), two to a byte, the first in the lower half
    exponents  (..., in / 32)

    Returns (..., in).
    """
    numbers = E2M1.decode(codes)
    return numbers * spread(E8M0.decode(exponents), BLOCK, numbers.shape[-1])
