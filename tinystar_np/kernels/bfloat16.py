"""bfloat16, which NumPy does not have: the upper 16 bits of a float32.

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    bfloat16  s eeeeeeee mmmmmmm

Rounding keeps 8 significant bits: an error of at most 2⁻⁸, 0.4 %, of each weight. Converting back is exact:
the 16 bits become the upper half of a float32 whose lower half is zero.
"""

import numpy as np
from numpy.typing import NDArray

HALF = np.uint32(16)  # bits


def to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16, to the nearest and ties to even: (...) → (...) as 16-bit integers.

    >>> [f"{bits:04x}" for bits in to_bfloat16(np.float32([1, 1 / 3]))]  # as float32: 3f800000, 3eaaaaab
    ['3f80', '3eab']
    """
    bits = np.ascontiguousarray(x).view(np.uint32)
    upper = bits >> HALF
    # Half of the last kept bit, less one where that bit is even, carries upwards exactly when it should.
    rounded = (bits + (np.uint32(0x7FFF) + (upper & np.uint32(1)))) >> HALF
    # The carry could make a NaN infinite: it keeps its upper half, with the bit of a quiet NaN set.
    return np.where(np.isnan(x), upper | np.uint32(0x0040), rounded).astype(np.uint16).reshape(x.shape)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 values of bfloat16 bits, exactly: (...) → (...).

    >>> from_bfloat16(np.uint16([0x3F80, 0x3EAB])).tolist()
    [1.0, 0.333984375]
    """
    return (bits.astype(np.uint32) << HALF).view(np.float32)
