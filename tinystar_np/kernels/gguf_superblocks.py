"""Weights in blocks of 256, as GGUF files store them: the scales of short groups have scales themselves.

A float16 scale for each 16 weights would cost a bit per weight. The K-types give each group a whole number
of 4, 6 or 8 bits instead, and all groups of the block a common float16:

    w_i = d · s_g · q_i                     Q3_K, Q6_K (groups of 16), IQ4_XS (groups of 32)
    w_i = d · s_g · q_i − dmin · m_g        Q2_K (groups of 16), Q4_K, Q5_K (groups of 32)

            bits of q    of s_g    of m_g    in all per weight
    Q2_K        2           4         4          2.625
    Q3_K        3           6         –          3.4375
    Q4_K        4           6         6          4.5
    IQ4_XS      4           6         –          4.25
    Q5_K        5           6         6          5.5
    Q6_K        6           8         –          6.5625

Bits of the same place value are stored together. 32 bytes hold the low halves of 32 weights and the high
halves of the next 32, or two bits each of four times 32; further bits of weights stand apart in the same
manner.

The layouts are those of ggml-common.h and ggml-quants.c in llama.cpp (Kawrakow 2023, pull request 1684).

In the examples d and dmin are float16 1, the bytes 0x00 and 0x3C.

Every function maps bytes (n, bytes of a block) to float32 (n, 256), a new array.
"""

import numpy as np

from tinystar_np.kernels.gguf_blocks import NON_LINEAR, Blocks, Weights, half


def q2_k(blocks: Blocks) -> Weights:
    """Widen 2 bits: 16 bytes of scales and minima, 64 bytes of bits, 2 bytes d, 2 bytes dmin.

    >>> scales, packed = [0x23] * 16, [0b11_10_01_00] * 64  # s_g = 3, m_g = 2; 32 weights each of 0, 1, 2, 3
    >>> q2_k(np.uint8([[*scales, *packed, 0x00, 0x3C, 0x00, 0x3C]]))[0, :128:32].tolist()
    [-2.0, 1.0, 4.0, 7.0]
    """
    scales, packed, d, dmin = np.split(blocks, [16, 80, 82], axis=1)
    scale = half(d) * (scales & 15).astype(np.float32)
    minimum = half(dmin) * (scales >> 4).astype(np.float32)
    return _scaled(bits(packed, 2), scale, minimum)


def q3_k(blocks: Blocks) -> Weights:
    """Widen 3 bits: 32 bytes of third bits, 64 bytes of two, 12 bytes of scales, 2 bytes d.

    q_i is from −4 to 3, s_g from −32 to 31.

    >>> third, packed = [1] * 32, [0b11_10_01_00] * 64  # 32 weights each of 4 + 0, 1, 2, 3
    >>> scales = [0x22] * 8 + [0b10_10_10_10] * 4  # s_g = 0b10_0010 − 32 = 2
    >>> q3_k(np.uint8([[*third, *packed, *scales, 0x00, 0x3C]]))[0, :128:32].tolist()
    [0.0, -6.0, -4.0, -2.0]
    """
    third, packed, scales, d = np.split(blocks, [32, 96, 108], axis=1)
    q = (bits(packed, 2) | bits(third, 1) << 2).astype(np.int8) - np.int8(4)
    # The lower 4 bits of all 16 scales, then the upper 2.
    s = (bits(scales[:, :8], 4, 8) | bits(scales[:, 8:], 2, 4) << 4).astype(np.int8) - np.int8(32)
    return _scaled(q, half(d) * s.astype(np.float32))


def q4_k(blocks: Blocks) -> Weights:
    """Widen 4 bits: 2 bytes d, 2 bytes dmin, 12 bytes of scales and minima, 128 bytes of halves.

    >>> scales, packed = [3] * 4 + [2] * 4 + [0x23] * 4, [0x10] * 128  # s_g = 3, m_g = 2; 32 weights 0, 32 1
    >>> q4_k(np.uint8([[0x00, 0x3C, 0x00, 0x3C, *scales, *packed]]))[0, :64:32].tolist()
    [-2.0, 1.0]
    """
    d, dmin, scales, packed = np.split(blocks, [2, 4, 16], axis=1)
    s, m = scales_and_minima(scales)
    return _scaled(bits(packed, 4), half(d) * s, half(dmin) * m)


def q5_k(blocks: Blocks) -> Weights:
    """Widen 5 bits: 2 bytes d, 2 dmin, 12 of scales and minima, 32 of fifth bits, 128 bytes of halves.

    >>> scales, packed = [3] * 4 + [2] * 4 + [0x23] * 4, [0x10] * 128  # as in ``q4_k``; weight 32 is 16 + 1
    >>> q5_k(np.uint8([[0x00, 0x3C, 0x00, 0x3C, *scales, *[0b10] * 32, *packed]]))[0, :64:32].tolist()
    [-2.0, 49.0]
    """
    d, dmin, scales, fifth, packed = np.split(blocks, [2, 4, 16, 48], axis=1)
    s, m = scales_and_minima(scales)
    return _scaled(bits(packed, 4) | bits(fifth, 1) << 4, half(d) * s, half(dmin) * m)


def q6_k(blocks: Blocks) -> Weights:
    """Widen 6 bits: 128 bytes of lower four, 64 bytes of upper two, 16 signed bytes of scales, 2 bytes d.

    q_i is from −32 to 31.

    >>> lower, upper = [0x10] * 128, [0b10_10_10_10] * 64  # 64 weights of 0b10_0000 = 32, 64 of 33
    >>> q6_k(np.uint8([[*lower, *upper, *[3] * 16, 0x00, 0x3C]]))[0, :128:64].tolist()  # s_g = 3
    [0.0, 3.0]
    """
    lower, upper, scales, d = np.split(blocks, [128, 192, 208], axis=1)
    q = (bits(lower, 4, 64) | bits(upper, 2) << 4).astype(np.int8) - np.int8(32)
    return _scaled(q, half(d) * scales.view(np.int8).astype(np.float32))


def iq4_xs(blocks: Blocks) -> Weights:
    """Widen 4 bits, the index of one of 16 values: 2 bytes d, 2 and 4 bytes of scales, 128 bytes of halves.

    s_g is from −32 to 31: its lower 4 bits are in 4 bytes, its upper 2 in 2 bytes before them.

    >>> scales, packed = [0b10_10_10_10] * 2 + [0x22] * 4, [0xF0] * 128  # s_g = 0b10_0010 − 32 = 2
    >>> iq4_xs(np.uint8([[0x00, 0x3C, *scales, *packed]]))[0, [0, 16]].tolist()  # first and last value
    [-254.0, 226.0]
    """
    d, upper, lower, packed = np.split(blocks, [2, 4, 8], axis=1)
    s = (bits(lower, 4, 1) | bits(upper, 2, 1) << 4).astype(np.int8) - np.int8(32)
    return _scaled(NON_LINEAR[bits(packed, 4, 16)], half(d) * s.astype(np.float32))


def scales_and_minima(packed: Blocks) -> tuple[Weights, Weights]:
    """Read the 6 bits of 8 scales and 8 minima of Q4_K and Q5_K: (n, 12) → (n, 8), (n, 8).

    Bytes 0 to 3 are scales 0 to 3, bytes 4 to 7 minima 0 to 3. Bytes 8 to 11 have the lower 4 bits of scales
    4 to 7 and, in their high halves, those of minima 4 to 7. Their upper 2 bits are the highest of bytes 0 to
    7, of which the first eight numbers need only 6.

    >>> s, m = scales_and_minima(np.uint8([[0b01_000001] * 4 + [0b10_000010] * 4 + [0b0100_0011] * 4]))
    >>> s[0, [0, 4]].tolist(), m[0, [0, 4]].tolist()  # 0b01_0011 = 19, 0b10_0100 = 36
    ([1.0, 19.0], [2.0, 36.0])
    """
    scales, minima, more = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    s = np.concatenate([scales & 63, more & 15 | scales >> 6 << 4], axis=1)
    m = np.concatenate([minima & 63, more >> 4 | minima >> 6 << 4], axis=1)
    return s.astype(np.float32), m.astype(np.float32)


def bits(packed: Blocks, each: int, run: int = 32) -> Blocks:
    """Split bytes into numbers of 1, 2 or 4 bits.

    packed  (n, b)
    each    bits of a number
    run     bytes of a run: all its lowest bits come first, then all its next ones

    Returns (n, 8b / each).

    >>> bits(np.uint8([[0b11_10_01_00, 0b11_10_01_00]]), 2, run=2).tolist()
    [[0, 0, 1, 1, 2, 2, 3, 3]]
    """
    n, b = packed.shape
    shifts = np.arange(0, 8, each, dtype=np.uint8)[:, None]
    parts = packed.reshape(n, b // run, 1, run) >> shifts & np.uint8((1 << each) - 1)
    return parts.reshape(n, 8 // each * b)


def _scaled(q: np.ndarray, scale: Weights, minimum: Weights | None = None) -> Weights:
    """Multiply numbers by the scales of their groups: (n, 256), (n, groups) and perhaps minima → (n, 256)."""
    w = scale[:, :, None] * q.reshape(*scale.shape, q.shape[1] // scale.shape[1]).astype(np.float32)
    if minimum is not None:
        w = w - minimum[:, :, None]
    return w.reshape(q.shape)
