"""Widening matrices in blocks (kernels/block_matrix.py) a part at a time, and summing before scaling.

**In long loops.** What NumPy does along the 16 or 32 bytes of a block has hardly begun when it ends. So the
same bytes of all blocks are gathered first, as one element each, which NumPy moves at once; shifts and masks
then run over all of them in one loop, and their conversion to float32 in runs of 32.

    billions of weights per second, one thread, Q4_0
    shifts and masks block by block, then conversion         2.4
    16 bits at a time through a table of four float32        4.0
    gathered, halves moved by 16 bytes, converted            6.6
    conversion of bytes alone                               13

Values that are no equal steps (IQ4_NL, IQ4_XS, MXFP4) are looked up two at a time.

**Scales last.** For one vector the products of each group are summed first, and the sums multiplied by their
scales: y_o = Σ_g s_og Σ_{i in g} x_i q_oi. A minimum needs the sums of the vector's own numbers. For several
vectors it is less work to scale the weights.

    groups of                      16     32
    sums, one vector              6.0   10
    scaling the weights           4.6    5.5

    in all, one vector    Q8_0  Q4_0  Q4_1  Q5_0  Q4_K  Q2_K  Q5_K  Q6_K  Q3_K  IQ4_NL  MXFP4  IQ4_XS
                           3.5   2.9   2.7   2.0   2.4   1.8   1.4   1.5   1.4     1.6    1.6     1.2
    by the kernel          1.9   1.0   0.8   0.6   0.7   0.7   0.5   0.6   0.5     0.5    0.4     0.4

(one core of a recent EPYC, NumPy 2.4, OpenBLAS 0.3.31; the kernel's without the product. float32, read from
memory, is multiplied at 8.)
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES
from tinystar_np.kernels.gguf_blocks import E2M1, NON_LINEAR

Bytes = NDArray[np.uint8]
Scales = NDArray[np.float32]


# A damaged scale may be infinite, and zero times it is NaN: without a warning, as in kernels/block_types.py.
quietly = np.errstate(invalid="ignore", over="ignore")


@quietly
def widen(matrix: BlockMatrix, some: slice, out: NDArray[np.float32]) -> None:
    """Unpack some stored rows into a contiguous buffer (n, columns), as ``matrix.rows`` does."""
    form = FORMS.get(matrix.element_type)
    if form is not None:
        scales, offsets = _widen_numbers(matrix, form, some, out)
        groups = out.reshape(scales.size, -1)
        groups *= scales.reshape(-1, 1)
        if offsets is not None:
            groups += offsets.reshape(-1, 1)
    elif matrix.element_type == "F16":
        np.take(_float16s(), matrix.stored[some].view("<u2"), mode="clip", out=out)
    else:
        out[...] = matrix.rows(some)


@quietly
def product_with_one(
    matrix: BlockMatrix, x: NDArray[np.float32], some: slice, room: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply one vector by the transpose of some stored rows, scaling the sums of groups.

    x     (columns,)
    room  (n, columns), contiguous, written over

    Returns (n,).
    """
    form = FORMS.get(matrix.element_type)
    if form is None:
        widen(matrix, some, room)
        return room @ x
    scales, offsets = _widen_numbers(matrix, form, some, room)
    n, groups = len(room), scales.size // len(room)
    vector = x.reshape(groups, -1, 1)
    sums = np.matmul(room.reshape(n, groups, -1).swapaxes(0, 1), vector)[..., 0]  # (groups, n)
    y: NDArray[np.float32] = np.einsum("gn,ng->n", sums, scales.reshape(n, groups))
    if offsets is not None:
        y += offsets.reshape(n, groups) @ vector.sum(axis=(1, 2))
    return y


class Form(NamedTuple):
    """How a type of blocks is widened: w = scale · q + offset.

    numbers  writes q of blocks (n, bytes) into (n, weights), both contiguous
    scales   maps blocks to the scales of their groups (n, groups), and the offsets or None
    """

    numbers: Callable[[Bytes, NDArray[np.float32]], None]
    scales: Callable[[Bytes], tuple[Scales, Scales | None]]


def _widen_numbers(
    matrix: BlockMatrix, form: Form, some: slice, out: NDArray[np.float32]
) -> tuple[Scales, Scales | None]:
    """Write the whole numbers of some rows into ``out``, and return the scales and offsets of the groups."""
    kind = BLOCK_TYPES[matrix.element_type]
    blocks = np.ascontiguousarray(matrix.stored[some]).reshape(-1, kind.bytes)
    form.numbers(blocks, out.reshape(-1, kind.weights))
    return form.scales(blocks)


def _field(blocks: Bytes, at: int, size: int) -> Bytes:
    """Copy the same bytes of every block to contiguous memory: (n, size).

    As one element each, which NumPy moves at once.
    """
    return np.ascontiguousarray(blocks[:, at : at + size].view(f"V{size}")).view(np.uint8)


def _halves(packed: Bytes) -> Bytes:
    """Split 16 bytes into 32 numbers as ``halves`` of kernels/gguf_blocks.py does: (n, 16) → (n, 32)."""
    q = np.empty((len(packed), 2), "V16")
    q[:, 0] = (packed & 15).view("V16")[:, 0]
    q[:, 1] = (packed >> 4).view("V16")[:, 0]
    return q.view(np.uint8)


def _q4_0(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _halves(_field(blocks, 2, 16))
    q -= 8
    np.copyto(out, q.view(np.int8))


def _q4_1(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, _halves(_field(blocks, 4, 16)))


def _q5_0(blocks: Bytes, out: NDArray[np.float32]) -> None:
    q = _five_bits(blocks, 2)
    q -= 16
    np.copyto(out, q.view(np.int8))


def _q5_1(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, _five_bits(blocks, 4))


def _five_bits(blocks: Bytes, at: int) -> Bytes:
    """Join four bits and the fifth: 4 bytes of these from ``at`` on, then 16 bytes of halves: → (n, 32)."""
    q = _halves(_field(blocks, at + 4, 16))
    q |= np.take(_fifths(), _field(blocks, at, 4), mode="clip").view(np.uint8)
    return q


@cache
def _fifths() -> NDArray[np.uint64]:
    """Return for every byte its 8 bits as 8 bytes, each 0 or 16."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    bits <<= 4
    return bits.view(np.uint64)[:, 0]


def _q8_0(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.copyto(out, blocks[:, 2:].view(np.int8))


def _q2_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    runs = out.reshape(-1, 8, 32)
    for half in (0, 1):
        packed = _field(blocks, 16 + 32 * half, 32)
        for i in range(4):
            np.copyto(runs[:, 4 * half + i], packed >> 2 * i & 3)


def _q3_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    runs, third = out.reshape(-1, 8, 32), _field(blocks, 0, 32)
    for half in (0, 1):
        packed = _field(blocks, 32 + 32 * half, 32)
        for i in range(4):
            q = _moved(third, 4 * half + i, 2) & 4
            q |= packed >> 2 * i & 3
            q -= 4
            np.copyto(runs[:, 4 * half + i], q.view(np.int8))


def _q4_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    runs = out.reshape(-1, 8, 32)
    for i in range(4):
        packed = _field(blocks, 16 + 32 * i, 32)
        np.copyto(runs[:, 2 * i], packed & 15)
        np.copyto(runs[:, 2 * i + 1], packed >> 4)


def _q5_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    runs, fifth = out.reshape(-1, 8, 32), _field(blocks, 16, 32)
    for i in range(4):
        packed = _field(blocks, 48 + 32 * i, 32)
        for half in (0, 1):
            q = _moved(fifth, 2 * i + half, 4) & 16
            q |= packed >> 4 if half else packed & 15
            np.copyto(runs[:, 2 * i + half], q)


def _q6_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    runs = out.reshape(-1, 8, 32)
    for half in (0, 1):
        lower = [_field(blocks, 64 * half + 32 * i, 32) for i in (0, 1)]
        upper = _field(blocks, 128 + 32 * half, 32)
        for i in range(4):
            q = _moved(upper, 2 * i, 4) & 48
            q |= lower[i % 2] >> 4 if i > 1 else lower[i % 2] & 15
            q -= 32
            np.copyto(runs[:, 4 * half + i], q.view(np.int8))


def _moved(bits: Bytes, place: int, to: int) -> Bytes:
    """Shift bytes so that the bit at ``place`` comes to ``to``; the bits around it come with it."""
    return bits >> np.uint8(place - to) if place >= to else bits << np.uint8(to - place)


def _iq4_nl(blocks: Bytes, out: NDArray[np.float32]) -> None:
    _look_up(_non_linear(), _field(blocks, 2, 16), out)


def _mxfp4(blocks: Bytes, out: NDArray[np.float32]) -> None:
    _look_up(_e2m1(), _field(blocks, 1, 16), out)


def _iq4_xs(blocks: Bytes, out: NDArray[np.float32]) -> None:
    _look_up(_non_linear(), _field(blocks, 8, 128).reshape(-1, 16), out.reshape(-1, 32))


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


def _d(blocks: Bytes, at: int = 0) -> Scales:
    """Look up the float16 of each block at a byte: (n, 1). Twice as fast as conversion."""
    return np.take(_float16s(), blocks[:, at : at + 2].view("<u2"), mode="clip")


@cache
def _float16s() -> Scales:
    """Return every float16 as float32: 256 KB."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _scale(blocks: Bytes) -> tuple[Scales, None]:
    return _d(blocks), None


def _scale_and_minimum(blocks: Bytes) -> tuple[Scales, Scales]:
    return _d(blocks), _d(blocks, 2)


def _power_of_two(blocks: Bytes) -> tuple[Scales, None]:
    return np.take(_powers(), blocks[:, :1], mode="clip"), None


@cache
def _powers() -> Scales:
    return np.ldexp(np.float32(1), np.arange(256) - 128)


def _q2_k_scales(blocks: Bytes) -> tuple[Scales, Scales]:
    both = _field(blocks, 0, 16)
    minima = (both >> 4).astype(np.float32)
    minima *= -_d(blocks, 82)
    both &= 15
    return both.astype(np.float32) * _d(blocks, 80), minima


def _q3_k_scales(blocks: Bytes) -> tuple[Scales, None]:
    lower, more, upper = _field(blocks, 96, 12).view("<u4").T  # four scales in each
    four = np.stack(
        [
            lower & 0x0F0F0F0F | (upper & 0x03030303) << 4,
            more & 0x0F0F0F0F | (upper >> 2 & 0x03030303) << 4,
            lower >> 4 & 0x0F0F0F0F | (upper >> 4 & 0x03030303) << 4,
            more >> 4 & 0x0F0F0F0F | (upper >> 6 & 0x03030303) << 4,
        ],
        axis=1,
    )
    scales = four.view(np.uint8)
    scales -= 32
    return scales.view(np.int8).astype(np.float32) * _d(blocks, 108), None


def _q4_k_scales(blocks: Bytes) -> tuple[Scales, Scales]:
    """Read 6 bits of 8 scales and minima as kernels/gguf_superblocks.py does, four bytes at a time."""
    scales, minima, more = _field(blocks, 4, 12).view("<u4").T
    s = np.stack([scales & 0x3F3F3F3F, more & 0x0F0F0F0F | scales >> 2 & 0x30303030], axis=1)
    m = np.stack([minima & 0x3F3F3F3F, more >> 4 & 0x0F0F0F0F | minima >> 2 & 0x30303030], axis=1)
    return s.view(np.uint8).astype(np.float32) * _d(blocks), m.view(np.uint8).astype(np.float32) * -_d(
        blocks, 2
    )


def _q6_k_scales(blocks: Bytes) -> tuple[Scales, None]:
    return _field(blocks, 192, 16).view(np.int8).astype(np.float32) * _d(blocks, 208), None


def _iq4_xs_scales(blocks: Bytes) -> tuple[Scales, None]:
    lower = _field(blocks, 4, 4)
    upper = _field(blocks, 2, 2).view("<u2")
    scales = np.empty((len(blocks), 8), np.uint8)
    for i in range(8):
        scales[:, i] = lower[:, i // 2] >> 4 * (i % 2) & 15 | (upper[:, 0] >> 2 * i & 3).astype(np.uint8) << 4
    scales -= 32
    return scales.view(np.int8).astype(np.float32) * _d(blocks), None


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
