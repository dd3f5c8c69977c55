"""The forms of blocks that can be widened quickly: whole numbers of all blocks, and scales of all groups.

Both are read from blocks in any arrangement: (n, B, bytes), as they are stored, or (B, n, bytes). The numbers
go to runs of 32 weights, (K, n, B, 32) or (K, B, n, 32), with K = 1 for blocks of 32 weights and 8 for those
of 256. What each byte means is in kernels/gguf_blocks.py and kernels/gguf_superblocks.py, why it is done so
in fast/blocks.py.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.gguf_blocks import E2M1, NON_LINEAR

Bytes = NDArray[np.uint8]
Scales = NDArray[np.float32]


class Form(NamedTuple):
    """How a type of blocks is widened: w = scale · q + offset.

    numbers  writes q of blocks (…, bytes) into their K runs of 32: (K, …, 32), each run contiguous
    scales   maps blocks to the scales of their groups (groups, …), contiguous, and the offsets or None
    """

    numbers: Callable[[Bytes, NDArray[np.float32]], None]
    scales: Callable[[Bytes], tuple[Scales, Scales | None]]


def _field(blocks: Bytes, at: int, size: int) -> Bytes:
    """Copy the same bytes of every block to contiguous memory: (…, bytes) → (…, size).

    As one element each, which NumPy moves at once.
    """
    return np.ascontiguousarray(blocks[..., at : at + size].view(f"V{size}")).view(np.uint8)


def _halves(packed: Bytes) -> Bytes:
    """Split 16 bytes into 32 numbers as ``halves`` of kernels/gguf_blocks.py does: (…, 16) → (…, 32)."""
    q = np.empty((*packed.shape[:-1], 2), "V16")
    q[..., 0] = (packed & 15).view("V16")[..., 0]
    q[..., 1] = (packed >> 4).view("V16")[..., 0]
    return q.view(np.uint8)


def _q4_0(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    q = _halves(_field(blocks, 2, 16))
    q -= 8
    np.copyto(runs[0], q.view(np.int8))


def _q4_1(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    np.copyto(runs[0], _halves(_field(blocks, 4, 16)))


def _q5_0(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    q = _five_bits(blocks, 2)
    q -= 16
    np.copyto(runs[0], q.view(np.int8))


def _q5_1(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    np.copyto(runs[0], _five_bits(blocks, 4))


def _five_bits(blocks: Bytes, at: int) -> Bytes:
    """Join four bits and the fifth: 4 bytes of these from ``at`` on, then 16 bytes of halves: → (…, 32)."""
    q = _halves(_field(blocks, at + 4, 16))
    q |= np.take(_fifths(), _field(blocks, at, 4), mode="clip").view(np.uint8)
    return q


@cache
def _fifths() -> NDArray[np.uint64]:
    """Return for every byte its 8 bits as 8 bytes, each 0 or 16."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    bits <<= 4
    return bits.view(np.uint64)[:, 0]


def _q8_0(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    np.copyto(runs[0], blocks[..., 2:].view(np.int8))


def _q2_k(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    for half in (0, 1):
        packed = _field(blocks, 16 + 32 * half, 32)
        for i in range(4):
            np.copyto(runs[4 * half + i], packed >> 2 * i & 3)


def _q3_k(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    third = _field(blocks, 0, 32)
    for half in (0, 1):
        packed = _field(blocks, 32 + 32 * half, 32)
        for i in range(4):
            q = _moved(third, 4 * half + i, 2) & 4
            q |= packed >> 2 * i & 3
            q -= 4
            np.copyto(runs[4 * half + i], q.view(np.int8))


def _q4_k(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    for i in range(4):
        packed = _field(blocks, 16 + 32 * i, 32)
        np.copyto(runs[2 * i], packed & 15)
        np.copyto(runs[2 * i + 1], packed >> 4)


def _q5_k(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    fifth = _field(blocks, 16, 32)
    for i in range(4):
        packed = _field(blocks, 48 + 32 * i, 32)
        for half in (0, 1):
            q = _moved(fifth, 2 * i + half, 4) & 16
            q |= packed >> 4 if half else packed & 15
            np.copyto(runs[2 * i + half], q)


def _q6_k(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    for half in (0, 1):
        lower = [_field(blocks, 64 * half + 32 * i, 32) for i in (0, 1)]
        upper = _field(blocks, 128 + 32 * half, 32)
        for i in range(4):
            q = _moved(upper, 2 * i, 4) & 48
            q |= lower[i % 2] >> 4 if i > 1 else lower[i % 2] & 15
            q -= 32
            np.copyto(runs[4 * half + i], q.view(np.int8))


def _moved(bits: Bytes, place: int, to: int) -> Bytes:
    """Shift bytes so that the bit at ``place`` comes to ``to``; the bits around it come with it."""
    return bits >> np.uint8(place - to) if place >= to else bits << np.uint8(to - place)


def _iq4_nl(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    _look_up(_non_linear(), _field(blocks, 2, 16), runs[0])


def _mxfp4(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    _look_up(_e2m1(), _field(blocks, 1, 16), runs[0])


def _iq4_xs(blocks: Bytes, runs: NDArray[np.float32]) -> None:
    for i in range(8):
        _look_up(_non_linear(), _field(blocks, 8 + 16 * i, 16), runs[i])


def _look_up(pairs: NDArray[np.complex64], packed: Bytes, out: NDArray[np.float32]) -> None:
    # With "clip" NumPy writes into ``out`` itself, and not by way of a copy.
    np.take(pairs, _halves(packed).view("<u2"), mode="clip", out=out.view(np.complex64))


@cache
def _non_linear() -> NDArray[np.complex64]:
    return _pairs(NON_LINEAR)


@cache
def _e2m1() -> NDArray[np.complex64]:
    return _pairs(E2M1)


def _pairs(values: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Return the two values of every two numbers from 0 to 15 in 16 bits, as one element: 32 KB."""
    two = np.arange(16 << 8)
    return values[np.stack([two & 15, two >> 8 & 15], axis=1)].view(np.complex64)[:, 0]


def _float16(blocks: Bytes, at: int) -> Scales:
    """Look up the float16 of each block at a byte: (…, bytes) → (…). Twice as fast as conversion."""
    return np.take(float16s(), blocks[..., at : at + 2].view("<u2")[..., 0], mode="clip")


@cache
def float16s() -> Scales:
    """Return every float16 as float32: 256 KB."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _scale(blocks: Bytes) -> tuple[Scales, None]:
    return _float16(blocks, 0)[None], None


def _scale_and_minimum(blocks: Bytes) -> tuple[Scales, Scales]:
    return _float16(blocks, 0)[None], _float16(blocks, 2)[None]


def _power_of_two(blocks: Bytes) -> tuple[Scales, None]:
    return np.take(_powers(), blocks[..., 0], mode="clip")[None], None


@cache
def _powers() -> Scales:
    return np.ldexp(np.float32(1), np.arange(256) - 128)


def _q2_k_scales(blocks: Bytes) -> tuple[Scales, Scales]:
    both = np.ascontiguousarray(np.moveaxis(_field(blocks, 0, 16), -1, 0))
    scales, minima = (both & 15).astype(np.float32), (both >> 4).astype(np.float32)
    scales *= _float16(blocks, 80)
    minima *= -_float16(blocks, 82)
    return scales, minima


def _q3_k_scales(blocks: Bytes) -> tuple[Scales, None]:
    lower, more, upper = _words(blocks, 96, 3)
    scales = _each_byte(
        lower & 0x0F0F0F0F | (upper & 0x03030303) << 4,
        more & 0x0F0F0F0F | (upper >> 2 & 0x03030303) << 4,
        lower >> 4 & 0x0F0F0F0F | (upper >> 4 & 0x03030303) << 4,
        more >> 4 & 0x0F0F0F0F | (upper >> 6 & 0x03030303) << 4,
    )
    scales -= 32
    scales *= _float16(blocks, 108)
    return scales, None


def _q4_k_scales(blocks: Bytes) -> tuple[Scales, Scales]:
    """Read 6 bits of 8 scales and minima as kernels/gguf_superblocks.py does, four at a time."""
    lower, minima, more = _words(blocks, 4, 3)
    scales = _each_byte(lower & 0x3F3F3F3F, more & 0x0F0F0F0F | lower >> 2 & 0x30303030)
    scales *= _float16(blocks, 0)
    offsets = _each_byte(minima & 0x3F3F3F3F, more >> 4 & 0x0F0F0F0F | minima >> 2 & 0x30303030)
    offsets *= -_float16(blocks, 2)
    return scales, offsets


def _q6_k_scales(blocks: Bytes) -> tuple[Scales, None]:
    small = np.moveaxis(_field(blocks, 192, 16).view(np.int8), -1, 0)
    scales = small.astype(np.float32, order="C")
    scales *= _float16(blocks, 208)
    return scales, None


def _iq4_xs_scales(blocks: Bytes) -> tuple[Scales, None]:
    upper = blocks[..., 2:4].view("<u2")[..., 0]
    scales = np.empty((8, *upper.shape), np.float32)
    for i in range(8):
        lower = blocks[..., 4 + i // 2] >> np.uint8(4 * (i % 2)) & 15
        scales[i] = (upper >> np.uint16(2 * i) & 3) << 4 | lower
    scales -= 32
    scales *= _float16(blocks, 0)
    return scales, None


def _words(blocks: Bytes, at: int, count: int) -> NDArray[np.uint32]:
    """Copy bytes of every block as words of four: (…, bytes) → (count, …)."""
    return np.moveaxis(_field(blocks, at, 4 * count).view("<u4"), -1, 0)


def _each_byte(*words: NDArray[np.uint32]) -> Scales:
    """Return the four bytes of words (…) as numbers, the lowest first: (4 times the number of words, …)."""
    four = np.stack(words)[..., None].view(np.uint8)  # (words, …, 4)
    return np.moveaxis(four, -1, 1).astype(np.float32, order="C").reshape(-1, *words[0].shape)


FORMS = {
    "Q4_0": Form(_q4_0, _scale),
    "Q4_1": Form(_q4_1, _scale_and_minimum),
    "Q5_0": Form(_q5_0, _scale),
    "Q5_1": Form(_q5_1, _scale_and_minimum),
    "Q8_0": Form(_q8_0, _scale),
    "IQ4_NL": Form(_iq4_nl, _scale),
    "MXFP4": Form(_mxfp4, _power_of_two),
    "Q2_K": Form(_q2_k, _q2_k_scales),
    "Q3_K": Form(_q3_k, _q3_k_scales),
    "Q4_K": Form(_q4_k, _q4_k_scales),
    "Q5_K": Form(_q5_k, _q4_k_scales),
    "Q6_K": Form(_q6_k, _q6_k_scales),
    "IQ4_XS": Form(_iq4_xs, _iq4_xs_scales),
}
