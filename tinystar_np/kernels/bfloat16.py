"""bfloat16 in a library that does not have it: float32 without its lower half.

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    bfloat16  s eeeeeeee mmmmmmm

Narrowing rounds to 8 significant bits: an error of at most 2⁻⁸, 0.4 %, of each weight.
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

BLOCK = 131_072  # words: 512 KB, which stay in a core's second-level cache
HALF = np.uint32(16)  # bits
ODD = np.uint32(0xFFFF0000)


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
    block_rows = max(1, BLOCK // words.shape[1])
    buffer = np.empty((min(block_rows, len(words)), words.shape[1]), dtype=np.uint32)
    return _by_outputs(x, words, buffer) if transposed else _by_inputs(x, words, buffer)


def _by_outputs(
    x: NDArray[np.float32], words: NDArray[np.uint32], buffer: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Stored (out, in): each block of rows gives some of the outputs, from the even and the odd inputs."""
    even, odd = np.ascontiguousarray(x[:, 0::2]), np.ascontiguousarray(x[:, 1::2])
    y = np.empty((len(x), len(words)), dtype=np.float32)
    for start in range(0, len(words), len(buffer)):
        block = words[start : start + len(buffer)]
        wide = buffer[: len(block)]
        values = wide.view(np.float32).T
        np.left_shift(block, HALF, out=wide)
        part = np.dot(even, values)
        np.bitwise_and(block, ODD, out=wide)
        part += np.dot(odd, values)
        y[:, start : start + len(block)] = part
    return y


def _by_inputs(
    x: NDArray[np.float32], words: NDArray[np.uint32], buffer: NDArray[np.uint32]
) -> NDArray[np.float32]:
    """Stored (in, out): each block of rows adds some inputs' share to the even and to the odd outputs."""
    even, odd = np.zeros((2, len(x), words.shape[1]), dtype=np.float32)
    for start in range(0, len(words), len(buffer)):
        block = words[start : start + len(buffer)]
        wide = buffer[: len(block)]
        values = wide.view(np.float32)
        share = np.ascontiguousarray(x[:, start : start + len(block)])
        np.left_shift(block, HALF, out=wide)
        even += np.dot(share, values)
        np.bitwise_and(block, ODD, out=wide)
        odd += np.dot(share, values)
    return np.stack([even, odd], axis=-1).reshape(len(x), 2 * words.shape[1])
