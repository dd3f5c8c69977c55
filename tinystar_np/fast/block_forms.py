"""The forms of blocks that can be widened quickly, laid out by columns: a byte of all rows side by side.

Blocks come as (B, bytes, n): B blocks of each of n rows, the n bytes of a place in a row of memory. What is
done to a byte is done to all n in one loop. What each byte means is in kernels/gguf_blocks.py and
kernels/gguf_superblocks.py, why it is done so in fast/blocks.py.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.gguf_blocks import E2M1, NON_LINEAR

Bytes = NDArray[np.uint8]
Scales = NDArray[np.float32]
Numbers = TypeVar("Numbers", NDArray[np.float32], NDArray[np.uint8])


class Form(NamedTuple):
    """How a type of blocks is widened: w = scale · q + offset.

    numbers  writes q of blocks (B, bytes, n) into (B, weights, n)
    scales   maps blocks to the scales of their groups (B, groups, n), and the offsets or None
    """

    numbers: Callable[[Bytes, NDArray[np.float32]], None]
    scales: Callable[[Bytes], tuple[Scales, Scales | None]]


def _shifted(packed: Bytes, places: int, mask: int) -> Bytes:
    """Shift bytes to the right, or for negative ``places`` to the left, and keep the bits of a mask.

    Eight at a time where possible: processors shift words of 64 bits, but no bytes. What comes in from a
    neighbour is outside the mask.
    """
    if packed.shape[-1] % 8:
        single = packed >> np.uint8(places) if places >= 0 else packed << np.uint8(-places)
        return single & np.uint8(mask)
    words: NDArray[np.uint64] = packed.view(np.uint64)
    moved = words >> np.uint64(places) if places >= 0 else words << np.uint64(-places)
    moved &= np.uint64(int.from_bytes(bytes([mask]) * 8, "little"))
    return moved.view(np.uint8)


def _halves(packed: Bytes, run: int | None = None) -> Bytes:
    """Split bytes into numbers of 4 bits, as ``bits`` of kernels/gguf_superblocks.py does.

    packed  (B, k, n)
    run     bytes of a run: all its low halves come first, then all its high ones; None: all k

    Returns (B, 2k, n).
    """
    B, k, n = packed.shape
    run = run or k
    runs = packed.reshape(B, k // run, run, n)
    q = np.empty((B, k // run, 2, run, n), np.uint8)
    np.bitwise_and(runs, 15, out=q[:, :, 0])
    np.right_shift(runs, 4, out=q[:, :, 1])
    return q.reshape(B, 2 * k, n)


def _q4_0(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _halves(blocks[:, 2:])
    q -= 8
    np.copyto(out, q.view(np.int8))


def _q4_1(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, _halves(blocks[:, 4:]))


def _q5_0(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _five_bits(blocks, 2)
    q -= 16
    np.copyto(out, q.view(np.int8))


def _q5_1(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, _five_bits(blocks, 4))


def _five_bits(blocks: Bytes, at: int) -> Bytes:
    """Join four bits and the fifth: 4 bytes of these from ``at`` on, then 16 bytes of halves: (B, 32, n)."""
    q = _halves(blocks[:, at + 4 :])
    fifth = blocks[:, at : at + 4]
    by_byte = q.reshape(len(q), 4, 8, -1)
    for i in range(8):  # bit i of the four bytes belongs to weights i, 8 + i, 16 + i and 24 + i
        by_byte[:, :, i] |= _shifted(fifth, i - 4, 16)
    return q


def _q8_0(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, blocks[:, 2:].view(np.int8))


def _q2_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    halves = _runs(blocks[:, 16:80])
    for i in range(4):
        np.copyto(_quarters(out)[:, :, i], _shifted(halves, 2 * i, 3))


def _q3_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _two_bits(blocks[:, 32:96])
    for half in (0, 1):
        for i in range(4):
            q[:, half, i] |= _shifted(blocks[:, :32], 4 * half + i - 2, 4)
    q -= 4
    np.copyto(_quarters(out), q.view(np.int8))


def _q4_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, _halves(blocks[:, 16:], 32))


def _q5_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _halves(blocks[:, 48:], 32)
    for i in range(8):
        q[:, 32 * i : 32 * i + 32] |= _shifted(blocks[:, 16:48], i - 4, 16)
    np.copyto(out, q)


def _q6_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _halves(blocks[:, :128], 64)
    for i in range(4):
        _quarters(q)[:, :, i] |= _shifted(_runs(blocks[:, 128:192]), 2 * i - 4, 48)
    q -= 32
    np.copyto(out, q.view(np.int8))


def _runs(packed: Bytes) -> Bytes:
    """View bytes as runs of 32: (B, k, n) → (B, k / 32, 32, n)."""
    return packed.reshape(len(packed), -1, 32, packed.shape[-1])


def _quarters(numbers: Numbers) -> Numbers:
    """View the numbers of a block as two halves of four runs of 32: (B, 256, n) → (B, 2, 4, 32, n)."""
    return numbers.reshape(len(numbers), 2, 4, 32, numbers.shape[-1])


def _two_bits(packed: Bytes) -> Bytes:
    """Split bytes (B, 64, n) into numbers of 2 bits, run by run: (B, 2, 4, 32, n)."""
    return np.stack([_shifted(_runs(packed), 2 * i, 3) for i in range(4)], axis=2)


def _iq4_nl(blocks: Bytes, out: NDArray[np.float32]) -> None:
    _look_up(_non_linear(), _halves(blocks[:, 2:]), out)


def _mxfp4(blocks: Bytes, out: NDArray[np.float32]) -> None:
    _look_up(_e2m1(), _halves(blocks[:, 1:]), out)


def _iq4_xs(blocks: Bytes, out: NDArray[np.float32]) -> None:
    _look_up(_non_linear(), _halves(blocks[:, 8:], 16), out)


def _look_up(pairs: NDArray[np.complex64], q: Bytes, out: NDArray[np.float32]) -> None:
    """Look up numbers of 4 bits (B, k, n), of two rows at a time."""
    if q.shape[-1] % 2:
        out[...] = pairs.view(np.float32)[::2][q]
    else:
        # With "clip" NumPy writes into ``out`` itself, and not by way of a copy.
        np.take(pairs, q.view("<u2"), mode="clip", out=out.view(np.complex64))


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
    """Look up the float16 of each block at a byte: (B, bytes, n) → (B, 1, n). Quicker than conversion."""
    bits = blocks[:, at + 1 : at + 2].astype(np.uint16)
    bits <<= 8
    bits |= blocks[:, at : at + 1]
    return np.take(float16s(), bits, mode="clip")


@cache
def float16s() -> Scales:
    """Return every float16 as float32: 256 KB."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _scale(blocks: Bytes) -> tuple[Scales, None]:
    return _float16(blocks, 0), None


def _scale_and_minimum(blocks: Bytes) -> tuple[Scales, Scales]:
    return _float16(blocks, 0), _float16(blocks, 2)


def _power_of_two(blocks: Bytes) -> tuple[Scales, None]:
    return np.take(_powers(), blocks[:, :1], mode="clip"), None


@cache
def _powers() -> Scales:
    return np.ldexp(np.float32(1), np.arange(256) - 128)


def _q2_k_scales(blocks: Bytes) -> tuple[Scales, Scales]:
    both = blocks[:, :16]
    scales, minima = (both & 15).astype(np.float32), (both >> 4).astype(np.float32)
    scales *= _float16(blocks, 80)
    minima *= -_float16(blocks, 82)
    return scales, minima


def _q3_k_scales(blocks: Bytes) -> tuple[Scales, None]:
    upper = blocks[:, 104:108]
    small = _halves(blocks[:, 96:104])
    for i in range(4):
        small[:, 4 * i : 4 * i + 4] |= _shifted(upper, 2 * i - 4, 48)
    scales = small.astype(np.float32)
    scales -= 32
    scales *= _float16(blocks, 108)
    return scales, None


def _q4_k_scales(blocks: Bytes) -> tuple[Scales, Scales]:
    """Read 6 bits of 8 scales and minima as kernels/gguf_superblocks.py does."""
    lower, minima, more = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([lower & 63, more & 15 | lower >> 2 & 48], axis=1).astype(np.float32)
    scales *= _float16(blocks, 0)
    offsets = np.concatenate([minima & 63, more >> 4 | minima >> 2 & 48], axis=1).astype(np.float32)
    offsets *= -_float16(blocks, 2)
    return scales, offsets


def _q6_k_scales(blocks: Bytes) -> tuple[Scales, None]:
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
    scales *= _float16(blocks, 208)
    return scales, None


def _iq4_xs_scales(blocks: Bytes) -> tuple[Scales, None]:
    upper, lower = blocks[:, 2:4], blocks[:, 4:8]
    small = np.stack([lower & 15, lower >> 4], axis=2)  # (B, 4, 2, n)
    by_byte = small.reshape(len(small), 2, 4, -1)
    for i in range(4):
        by_byte[:, :, i] |= _shifted(upper, 2 * i - 4, 48)
    scales = small.reshape(len(small), 8, -1).astype(np.float32)
    scales -= 32
    scales *= _float16(blocks, 0)
    return scales, None


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
