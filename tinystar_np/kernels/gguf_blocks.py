"""Weights in blocks of 32, as GGUF files store them: a small whole number for each, and a scale for all.

    w_i = d · q_i                  type 0: Q4_0, Q5_0, Q8_0; q_i from −8, −16 or −128 on
    w_i = d · q_i + m              type 1: Q4_1, Q5_1; q_i from 0 on
    w_i = d · table[q_i]           IQ4_NL, MXFP4: 16 values that are closer together around zero

d and m are float16 (in MXFP4 d is a power of two), so a block of 4 bits has 18 or 20 bytes: 4.5 or 5 bits per
weight. A block is so short that one large weight spoils the scale of 31 others only. A whole row, as in
kernels/int8.py, would share one.

Two weights of 4 bits share a byte, but they are no neighbours:

    byte j, from 0 to 15:  the low half is weight j, the high half weight j + 16

so that one instruction splits 16 bytes into weights 0 to 15, another into weights 16 to 31. A fifth bit is in
32 bits of its own, bit i for weight i.

The layouts are those of ggml-common.h in llama.cpp (Gerganov and others, from 2023 on). MXFP4 is from the
Open Compute Project's Microscaling Formats specification 1.0 (2023): E2M1 numbers and a power of two for 32.

In the examples d and m are float16 1 (bytes 0x00, 0x3C) or 2 (0x00, 0x40).

Every function maps bytes (n, bytes of a block) to float32 (n, weights of a block), a new array.
"""

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.uint8]
Weights = NDArray[np.float32]

# IQ4_NL's values, in steps of d: fitted to the distribution of weights.
NON_LINEAR = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)
# E2M1: a sign, two bits of exponent, one of mantissa; in steps of ½.
E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.float32)


def f32(blocks: Blocks) -> Weights:
    """Read float32 numbers, one of 4 bytes in each block.

    >>> f32(np.uint8([[0x00, 0x00, 0xC0, 0x3F]])).tolist()
    [[1.5]]
    """
    return np.ascontiguousarray(blocks).view("<f4").astype(np.float32)


def f16(blocks: Blocks) -> Weights:
    """Widen float16 numbers, one of 2 bytes in each block.

    >>> f16(np.uint8([[0x00, 0x3C], [0x00, 0xC0]])).tolist()
    [[1.0], [-2.0]]
    """
    return half(blocks)


def bf16(blocks: Blocks) -> Weights:
    """Widen bfloat16 numbers (kernels/bfloat16.py), one of 2 bytes in each block.

    >>> bf16(np.uint8([[0x80, 0x3F]])).tolist()
    [[1.0]]
    """
    return (np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def q4_0(blocks: Blocks) -> Weights:
    """Widen 4 bits with a scale: 2 bytes d, 16 bytes of halves.

    >>> block = np.uint8([[0x00, 0x40, *[0x98] * 16]])  # d = 2; weights 0 to 15 are 8, the others 9
    >>> q4_0(block)[0, [0, 15, 16, 31]].tolist()
    [0.0, 0.0, 2.0, 2.0]
    """
    return half(blocks[:, :2]) * (nibbles(blocks[:, 2:]) - np.float32(8))


def q4_1(blocks: Blocks) -> Weights:
    """Widen 4 bits with a scale and a minimum: 2 bytes d, 2 bytes m, 16 bytes of halves.

    >>> block = np.uint8([[0x00, 0x40, 0x00, 0x3C, *[0x10] * 16]])  # d = 2, m = 1; weights 0 to 15 are 0
    >>> q4_1(block)[0, [0, 15, 16, 31]].tolist()
    [1.0, 1.0, 3.0, 3.0]
    """
    return half(blocks[:, :2]) * nibbles(blocks[:, 4:]) + half(blocks[:, 2:4])


def q5_0(blocks: Blocks) -> Weights:
    """Widen 5 bits with a scale: 2 bytes d, 4 bytes of fifth bits, 16 bytes of halves.

    >>> block = np.uint8([[0x00, 0x3C, 0b1, 0, 0, 0, *[0] * 16]])  # d = 1; weight 0 alone has its fifth bit
    >>> q5_0(block)[0, :3].tolist()
    [0.0, -16.0, -16.0]
    """
    q = nibbles(blocks[:, 6:]) + 16 * fifth_bits(blocks[:, 2:6])
    return half(blocks[:, :2]) * (q - np.float32(16))


def q5_1(blocks: Blocks) -> Weights:
    """Widen 5 bits with a scale and a minimum: 2 bytes d, 2 bytes m, 4 bytes of fifth bits, 16 of halves.

    >>> block = np.uint8([[0x00, 0x3C, 0x00, 0x3C, 0b1, 0, 0, 0, *[0] * 16]])  # as in ``q5_0``, and m = 1
    >>> q5_1(block)[0, :3].tolist()
    [17.0, 1.0, 1.0]
    """
    q = nibbles(blocks[:, 8:]) + 16 * fifth_bits(blocks[:, 4:8])
    return half(blocks[:, :2]) * q + half(blocks[:, 2:4])


def q8_0(blocks: Blocks) -> Weights:
    """Widen 8 bits with a scale: 2 bytes d, 32 signed bytes.

    >>> q8_0(np.uint8([[0x00, 0x40, 1, 2, 255, *[0] * 29]]))[0, :4].tolist()  # d = 2
    [2.0, 4.0, -2.0, 0.0]
    """
    return half(blocks[:, :2]) * blocks[:, 2:].view(np.int8).astype(np.float32)


def iq4_nl(blocks: Blocks) -> Weights:
    """Widen 4 bits, the index of one of 16 values, with a scale: 2 bytes d, 16 bytes of halves.

    >>> iq4_nl(np.uint8([[0x00, 0x3C, *[0xF0] * 16]]))[0, [0, 16]].tolist()  # d = 1; first and last value
    [-127.0, 113.0]
    """
    return half(blocks[:, :2]) * NON_LINEAR[halves(blocks[:, 2:])]


def mxfp4(blocks: Blocks) -> Weights:
    """Widen floating-point numbers of 4 bits with a power of two: 1 byte e, 16 bytes of halves.

    The table is in steps of ½, so d = 2^(e − 128). e = 0 and 1 are below float32's smallest normal number.

    >>> mxfp4(np.uint8([[128, *[0x72] * 16]]))[0, [0, 16]].tolist()  # d = 1; codes 2 and 7
    [2.0, 12.0]
    """
    d = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128)
    return d * E2M1[halves(blocks[:, 1:])]


def half(pairs: Blocks) -> Weights:
    """Read float16 numbers of two bytes each: (n, 2k) → (n, k).

    >>> half(np.uint8([[0x00, 0x3C, 0x00, 0x40]])).tolist()
    [[1.0, 2.0]]
    """
    return np.ascontiguousarray(pairs).view("<f2").astype(np.float32)


def halves(packed: Blocks) -> Blocks:
    """Split bytes: (n, b) → (n, 2b), all low halves, then all high halves.

    >>> halves(np.uint8([[0x21, 0x43]])).tolist()
    [[1, 3, 2, 4]]
    """
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def nibbles(packed: Blocks) -> Weights:
    """Split bytes into numbers from 0 to 15: (n, b) → (n, 2b), all low halves, then all high halves.

    >>> nibbles(np.uint8([[0x21, 0x43]])).tolist()
    [[1.0, 3.0, 2.0, 4.0]]
    """
    return halves(packed).astype(np.float32)


def fifth_bits(bits: Blocks) -> Weights:
    """Read single bits, the lowest of the first byte first: (n, b) → (n, 8b), each 0 or 1.

    >>> fifth_bits(np.uint8([[0b00000101]])).tolist()
    [[1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return np.unpackbits(bits, axis=-1, bitorder="little").astype(np.float32)
