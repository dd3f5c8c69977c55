"""bfloat16 in a library that does not have it: float32 without its lower half.

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    bfloat16  s eeeeeeee mmmmmmm

Widening is exact: the 16 bits become the upper half of a float32 whose lower half is zero. ``widen`` is that
definition. To multiply by a matrix this way would first write a float32 copy of it, twice its size.

``bfloat16_product`` takes a block of rows at a time into a buffer that stays in the processor's cache and
multiplies from there, so that memory sees only the 16 bits. It also reads two neighbours at once: seen as one
32-bit word (little-endian), the even column is the lower half and the odd column the upper one.

    word << 16           is the even weight as float32
    word & 0xFFFF0000    is the odd one

That makes two half-sized products, one with the even and one with the odd columns, and no shuffling.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 256
ODD = np.uint32(0xFFFF0000)


def narrow(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16, to the nearest and ties to even: (...) → (...) as 16-bit integers."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    upper = bits >> 16
    # Half of the last kept bit, less one where that bit is even, carries upwards exactly when it should.
    rounded = (bits + np.uint32(0x7FFF) + (upper & 1)) >> 16
    # A NaN may carry into infinity; it keeps its upper half, with one bit set that says it is a quiet one.
    return np.where(np.isnan(x), upper | 0x0040, rounded).astype(np.uint16)


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 values of bfloat16 bits, exactly: (...) → (...)."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def bfloat16_product(
    x: NDArray[np.float32], bits: NDArray[np.uint16], *, transposed: bool
) -> NDArray[np.float32]:
    """Multiply vectors by a bfloat16 matrix: x W, where W or its transpose is stored.

    x           (T, in)
    bits        (in, out), or (out, in) with ``transposed``; contiguous
    transposed  whether the stored matrix is the transpose of the one to multiply by

    Returns float32 (T, out): ``x @ widen(bits)`` or ``x @ widen(bits).T``.
    """
    if bits.shape[1] % 2 or not bits.flags.c_contiguous or bits.ctypes.data % 4:
        return x @ (widen(bits).T if transposed else widen(bits))  # no pairs of columns to read as words
    words = bits.view(np.uint32)  # (rows, columns / 2)
    buffer = np.empty((min(BLOCK_ROWS, len(words)), words.shape[1]), dtype=np.uint32)
    return _by_outputs(x, words, buffer) if transposed else _by_inputs(x, words, buffer)


def _by_outputs(
    x: NDArray[np.float32], words: NDArray[np.uint32], buffer: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Stored (out, in): each block of rows gives some of the outputs, from the even and the odd inputs."""
    even, odd = np.ascontiguousarray(x[:, 0::2]), np.ascontiguousarray(x[:, 1::2])
    y = np.empty((len(x), len(words)), dtype=np.float32)
    for start in range(0, len(words), BLOCK_ROWS):
        block = words[start : start + BLOCK_ROWS]
        wide = buffer[: len(block)]
        values = wide.view(np.float32).T
        np.left_shift(block, 16, out=wide)
        part = even @ values
        np.bitwise_and(block, ODD, out=wide)
        part += odd @ values
        y[:, start : start + BLOCK_ROWS] = part
    return y


def _by_inputs(
    x: NDArray[np.float32], words: NDArray[np.uint32], buffer: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Stored (in, out): each block of rows adds some inputs' share to the even and to the odd outputs."""
    even, odd = np.zeros((2, len(x), words.shape[1]), dtype=np.float32)
    for start in range(0, len(words), BLOCK_ROWS):
        block = words[start : start + BLOCK_ROWS]
        wide = buffer[: len(block)]
        values = wide.view(np.float32)
        share = np.ascontiguousarray(x[:, start : start + BLOCK_ROWS])
        np.left_shift(block, 16, out=wide)
        even += share @ values
        np.bitwise_and(block, ODD, out=wide)
        odd += share @ values
    return np.stack([even, odd], axis=-1).reshape(len(x), -1)
