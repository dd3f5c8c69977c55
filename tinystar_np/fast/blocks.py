"""Widening matrices in blocks (kernels/block_matrix.py) a part at a time, and summing before scaling.

**In long loops.** What NumPy does along the 16 or 32 bytes of a block has hardly begun when it ends. So the
same bytes of all blocks are gathered first, as one element each, which NumPy moves at once. Shifts and masks
then run over all of them in one loop, and so does their conversion to float32. Values that are no equal steps
(IQ4_NL, IQ4_XS, MXFP4) are looked up two at a time.

    billions of weights per second, one thread, Q4_0 in cache
    shifts and masks block by block, then conversion         2.4
    16 bits at a time through a table of four float32        4.0
    gathered, halves moved by 16 bytes, converted            6.6
    conversion of bytes alone                               13

**Scales last.** For one vector the products of each group are summed first, and the sums multiplied by their
scales: y_o = Σ_g s_og Σ_{i in g} x_i q_oi. A minimum needs the sums of the vector's own numbers. The rows of
a block's place are then side by side, (K, B, n, 32) for n rows of B blocks with K runs of 32: each product of
a group with its part of the vector reads one piece of memory, and so does the sum over groups. For several
vectors it is less work to scale the weights.

    sums of groups                         16     32        scaling the weights     16     32
    rows where they are stored            5.8    9.5                               4.6    5.5
    rows of a place side by side         10.2   17.0

    from memory, one vector   Q8_0  Q4_0  Q4_1  Q4_K  Q2_K  Q5_0  Q5_K  MXFP4  Q3_K  Q6_K  IQ4_NL  IQ4_XS
                               3.1   3.0   2.8   2.7   2.5   2.1   1.8    1.7   1.7   1.6     1.6     1.5
    bytes with a scale per row (kernels/int8.py)  6.3           float32  8.2

    512 vectors, of float32's speed: Q8_0, Q4_0 0.92, Q4_K, Q6_K 0.86, IQ4_XS 0.83

(matrices of 2048 × 2048 and 2048 × 5632, processor time of one core of a recent EPYC that reads 34 GB/s by
itself, NumPy 2.4, OpenBLAS 0.3.31; lower quartiles.)
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES
from tinystar_np.kernels.gguf_blocks import E2M1, NON_LINEAR

RUN = 32  # weights that are written at once

Bytes = NDArray[np.uint8]
Scales = NDArray[np.float32]


# A damaged scale may be infinite, and zero times it is NaN: without a warning, as in kernels/block_types.py.
quietly = np.errstate(invalid="ignore", over="ignore")


@quietly
def widen(matrix: BlockMatrix, some: slice, out: NDArray[np.float32]) -> None:
    """Unpack some stored rows into a contiguous buffer (n, columns), as ``matrix.rows`` does."""
    form = FORMS.get(matrix.element_type)
    if form is None:
        if matrix.element_type == "F16":
            np.take(_float16s(), matrix.stored[some].view("<u2"), mode="clip", out=out)
        else:
            out[...] = matrix.rows(some)
        return
    blocks = _blocks(matrix, some)  # (n, B, bytes)
    n, B, _ = blocks.shape
    runs = out.reshape(n, B, -1, RUN).transpose(2, 0, 1, 3)  # (K, n, B, 32)
    form.numbers(blocks, runs)
    scales, offsets = form.scales(blocks)  # (K · r, n, B)
    K, r = len(runs), len(scales) // len(runs)
    groups = out.reshape(n, B, K, r, -1)
    groups *= scales.reshape(K, r, n, B).transpose(2, 3, 0, 1)[..., None]
    if offsets is not None:
        groups += offsets.reshape(K, r, n, B).transpose(2, 3, 0, 1)[..., None]


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
    # Copied first: memory is read quickly only in its order, and what follows goes from row to row.
    blocks = _blocks(matrix, some).copy().swapaxes(0, 1)  # (B, n, bytes)
    B, n, _ = blocks.shape
    runs = room.reshape(-1, B, n, RUN)  # (K, B, n, 32)
    form.numbers(blocks, runs)
    scales, offsets = form.scales(blocks)  # (K · r, B, n)
    K, r = len(runs), len(scales) // len(runs)
    vector = x.reshape(B, K, r, -1).transpose(1, 2, 0, 3)  # (K, r, B, 32 / r)
    groups = runs.reshape(K, B, n, r, -1).transpose(0, 3, 1, 2, 4)  # (K, r, B, n, 32 / r)
    sums = np.matmul(groups, vector[..., None])
    y: NDArray[np.float32] = np.einsum("gn,gn->n", sums.reshape(-1, n), scales.reshape(-1, n))
    if offsets is not None:
        y += vector.sum(axis=-1).reshape(-1) @ offsets.reshape(-1, n)
    return y


def _blocks(matrix: BlockMatrix, some: slice) -> Bytes:
    """View some rows as blocks: (n, B, bytes), B in a row."""
    part = matrix.stored[some]
    return part.reshape(len(part), -1, BLOCK_TYPES[matrix.element_type].bytes)


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
    return np.take(_float16s(), blocks[..., at : at + 2].view("<u2")[..., 0], mode="clip")


@cache
def _float16s() -> Scales:
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
