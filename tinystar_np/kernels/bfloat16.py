"""bfloat16 in a library that does not have it: float32 without its lower half.

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    bfloat16  s eeeeeeee mmmmmmm

Narrowing rounds to 8 significant bits: an error of at most 2⁻⁸, 0.4 %, of each weight.
Widening is exact: the 16 bits become the upper half of a float32 whose lower half is zero. To multiply by a
matrix of them, kernels/widened.py widens a part at a time.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK = 131_072  # numbers: 512 KB, which stay in a core's second-level cache
HALF = np.uint32(16)  # bits


def narrow(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16, to the nearest and ties to even: (...) → (...) as 16-bit integers."""
    flat = np.ascontiguousarray(x).reshape(-1)
    narrowed = np.empty(flat.shape, dtype=np.uint16)
    for start in range(0, flat.size, BLOCK):  # what is computed on the way stays in cache
        some = flat[start : start + BLOCK]
        bits = some.view(np.uint32)
        # Half of the last kept bit, less one where that bit is even, carries upwards exactly when it should.
        rounded = bits >> HALF
        rounded &= 1
        rounded += np.uint32(0x7FFF)
        rounded += bits
        rounded >>= HALF
        nan = np.isnan(some)
        if (
            nan.any()
        ):  # it may carry into infinity; it keeps its upper half, and one bit says it is a quiet one
            rounded[nan] = (bits[nan] >> HALF) | 0x0040
        narrowed[start : start + BLOCK] = rounded
    return narrowed.reshape(x.shape)


def widen(bits: NDArray[np.uint16], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the float32 values of bfloat16 bits, exactly: (...) → (...), in ``out`` where it is given."""
    wide = np.empty(bits.shape, dtype=np.uint32) if out is None else out.view(np.uint32)
    np.copyto(wide, bits)
    wide <<= HALF
    return wide.view(np.float32)
