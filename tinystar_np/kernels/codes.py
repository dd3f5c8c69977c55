"""Coded weights: a few bits say which number of a short table a weight is; a block of them has a scale.

    W_oi = (T[q_oi] − z_b) · s_b + m_b          b: the block that row o and column i are in

Every narrow type is such a table, and a rule that says which weights share a scale. A whole number stands
for itself; a float of 4 or 8 bits is one of 16 or 256 numbers, and so is a type whose numbers follow a bell
curve. Small blocks follow the weights' sizes more closely, and have more scales to store:

    type                             bits   block      scale, zero point      bits a weight
    integers of GPTQ, AWQ, MLX       4      1 × 128    float16, 4 bits        4.2
    MXFP4 (kernels/mxfp4.py)         4      1 × 32     a power of two, none   4.25
    NF4 of bitsandbytes              4      1 × 64     float32, none          4.5
    E4M3 of DeepSeek-V3              8      128 × 128  float32, none          8.002

A zero point z lets codes cover a range that is not the same on both sides of 0; MLX stores the least number
m instead. What is computed here is computed in float32, in the order of the formula.

The two codes of a byte of 4-bit types are in the order low half, high half, or with ``high_first`` the other.
"""

import numpy as np
from numpy.typing import NDArray


class Code:
    """The numbers that codes stand for. Two with the same numbers are equal.

    bits        4 or 8
    numbers     (2^bits,)
    high_first  whether the first of two codes in a byte is in its upper half

    >>> Code(4, np.arange(0, 160, 10)).decode(np.uint8([0x21, 0x43])).tolist()
    [10, 20, 30, 40]
    """

    def __init__(self, bits: int, numbers: NDArray[np.float32], high_first: bool = False):
        self.bits, self.numbers, self.high_first = bits, numbers, high_first
        self._all = (bits, high_first, numbers.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def decode(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Look up every code: bytes (..., n) → numbers (..., 8 n / bits), a new array."""
        if self.bits == 8:
            return self.numbers[packed]
        halves = [packed & 15, packed >> 4]
        in_order = np.stack(halves[::-1] if self.high_first else halves, axis=-1)
        return self.numbers[in_order.reshape(*packed.shape[:-1], 2 * packed.shape[-1])]

    def values(self, packed: NDArray[np.uint8], some: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Take some codes of each row, by their numbers (m,): bytes (..., n) → whole numbers (..., m)."""
        if self.bits == 8:
            return packed[..., some]
        shifts = 4 * ((some % 2) ^ self.high_first).astype(np.uint8)
        return packed[..., some // 2] >> shifts & np.uint8(15)

    def packed(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pack codes: whole numbers (..., m) → bytes (..., m · bits / 8), a new array.

        >>> Code(4, np.arange(16, dtype=np.float32)).packed(np.uint8([1, 2, 3, 4])).tolist() == [0x21, 0x43]
        True
        """
        if self.bits == 8:
            return values.copy()
        low, high = values[..., ::2], values[..., 1::2]
        if self.high_first:
            low, high = high, low
        return low | high << np.uint8(4)


def whole_numbers(bits: int, zero: int = 0) -> Code:
    """Return the code of unsigned whole numbers, counted from −``zero``: 0, 1, … for zero = 0.

    >>> whole_numbers(4, zero=8).numbers[[0, 8, 15]].tolist()
    [-8.0, 0.0, 7.0]
    """
    return Code(bits, np.arange(2**bits, dtype=np.float32) - np.float32(zero))


INT8 = Code(8, np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32))
"""Signed whole numbers, −128 to 127, in two's complement."""


def spread(per_block: NDArray, block: int, columns: int) -> NDArray:
    """Give each column the number of its block: (..., blocks) → (..., columns); the last may be shorter.

    >>> spread(np.array([10.0, 20.0]), block=2, columns=3).tolist()
    [10.0, 10.0, 20.0]
    """
    return per_block[..., np.arange(columns) // block]
