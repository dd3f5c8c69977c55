"""A matrix of codes of 4 or 8 bits, whose blocks share a scale (kernels/codes.py)."""

from collections.abc import Callable
from copy import copy
from math import gcd, lcm
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.codes import Code, spread
from tinystar_np.kernels.packed import PackedMatrix, Rows, SomeColumns

FEWEST = 16
"""Columns in a block that a part makes smaller: more would take much memory for their scales."""


class Shared(NamedTuple):
    """What the weights of blocks share, as float32, of some rows: (..., blocks in a row) each.

    scales  multiply the numbers
    zeros   are subtracted before, or None
    biases  are added after, or None
    """

    scales: NDArray[np.float32]
    zeros: NDArray[np.float32] | None
    biases: NDArray[np.float32] | None


class CodedMatrix(PackedMatrix):
    """A matrix of codes of 4 or 8 bits, whose blocks share a scale (kernels/codes.py).

    codes       (rows, bytes); a view of the mapped file will do
    code        what the codes stand for
    scales      (blocks of rows, blocks of columns): numbers of any float type, or codes of ``scale_code``
    block       rows and columns of a block; the last of each may be smaller
    scale_code  what ``scales`` stand for, where they are codes themselves
    zeros       zero points in the shape of ``scales``, numbers of any type, or None
    biases      what is added to the scaled numbers, likewise, or None
    order       which column each stored column is, where they are stored in another order; or None
    transposed  whether the matrix to multiply by is the transpose of the stored rows

    >>> code, scales = Code(4, np.arange(16, dtype=np.float32)), np.float32([[10, 100]])
    >>> CodedMatrix(np.uint8([[0x21, 0x43]]), code, scales, block=(1, 2)).rows(slice(None)).tolist()
    [[10.0, 20.0, 300.0, 400.0]]
    """

    def __init__(
        self,
        codes: NDArray[np.uint8],
        code: Code,
        scales: NDArray,
        *,
        block: tuple[int, int],
        scale_code: Code | None = None,
        zeros: NDArray | None = None,
        biases: NDArray | None = None,
        order: NDArray[np.integer] | None = None,
        transposed: bool = False,
    ):
        super().__init__(codes, codes.shape[1] * 8 // code.bits, transposed)
        self.element_type = f"{code.bits} bits"
        self.code, self.scale_code = code, scale_code
        self.block = block
        self.scales, self.zeros, self.biases, self.order = scales, zeros, biases, order

    def shared(self, some: Rows) -> Shared:
        """Return what the blocks of some rows share: (...) → (..., blocks in a row) each."""
        of_rows = some
        if self.block[0] > 1:
            rows = np.arange(*some.indices(len(self.stored))) if isinstance(some, slice) else some
            of_rows = rows // self.block[0]
        scales = self.scales[of_rows]
        return Shared(
            _float32(scales) if self.scale_code is None else self.scale_code.decode(scales),
            None if self.zeros is None else _float32(self.zeros[of_rows]),
            None if self.biases is None else _float32(self.biases[of_rows]),
        )

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        numbers = self.code.decode(self.stored[some])
        scales, zeros, biases = self.shared(some)
        if zeros is not None:
            numbers -= spread(zeros, self.block[1], self.columns)
        numbers *= spread(scales, self.block[1], self.columns)
        if biases is not None:
            numbers += spread(biases, self.block[1], self.columns)
        if self.order is None:
            return numbers
        ordered = np.empty_like(numbers)
        ordered[..., self.order] = numbers
        return ordered

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> PackedMatrix:
        """Return the matrix of some rows and columns, without a copy of codes where it may.

        Where a border cuts through blocks, the part has smaller ones with the same scales, or whole ones.
        Columns that are stored in another order, or given by their numbers, are copied.
        """
        other = self._of_rows(rows)
        if not isinstance(columns, slice):
            return other._of_numbers(columns)
        start, stop, _ = columns.indices(self.columns)
        if (start, stop) == (0, self.columns):
            return other
        if self.order is not None:
            return other._of_numbers(np.arange(start, stop))
        in_a_byte, width = 8 // self.code.bits, min(self.block[1], self.columns)
        first = start // in_a_byte * in_a_byte
        if gcd(first, width) < min(FEWEST, width) and width < self.columns:
            first = lcm(width, in_a_byte) * (start // lcm(width, in_a_byte))
        whole = other._of_bytes(first // in_a_byte, -(-stop // in_a_byte))
        if whole.columns == stop - start:
            return whole
        return SomeColumns(whole, slice(start - first, stop - first))

    def _of_rows(self, rows: Rows) -> Self:
        other = copy(self)
        other.stored = self.stored[rows]
        height = self.block[0]
        if height >= len(self.stored):
            blocks: Rows = slice(None)
        elif isinstance(rows, slice) and rows.indices(len(self.stored))[0] % height == 0:
            start, stop, _ = rows.indices(len(self.stored))
            blocks = slice(start // height, -(-stop // height))
        else:  # blocks are cut through: each row gets scales of its own
            blocks = np.arange(len(self.stored))[rows] // height
            other.block = (1, self.block[1])
        return other._with_blocks(lambda shared: shared[blocks])

    def _of_bytes(self, left: int, right: int) -> Self:
        """Return the matrix of the codes in a run of each row's bytes."""
        other = copy(self)
        other.stored = self.stored[:, left:right]
        other.columns = other.stored.shape[1] * 8 // self.code.bits
        start, width = left * 8 // self.code.bits, min(self.block[1], self.columns)
        if width == self.columns:  # a row is one block, and so is its part
            return other
        finer = gcd(start, width)
        other.block = (self.block[0], finer)
        blocks = (start + finer * np.arange(-(-other.columns // finer))) // width
        return other._with_blocks(lambda shared: shared[:, blocks])

    def _of_numbers(self, columns: NDArray[np.integer]) -> PackedMatrix:
        """Return columns by their numbers, each of which is named once.

        Of each group of columns with a scale it has those that are named, filled up to whole blocks.
        """
        stored = columns if self.order is None else np.argsort(self.order)[columns]
        found = np.sort(stored)
        groups = found // self.block[1]
        counts = np.bincount(groups, minlength=self.scales.shape[1])
        width = gcd(self.block[1], *counts.tolist())
        if width < FEWEST:
            width = min(FEWEST, self.block[1])
        blocks = -(-counts // width)
        places = ((np.cumsum(blocks) - blocks) * width - (np.cumsum(counts) - counts))[groups]
        places += np.arange(len(found))
        values = np.zeros((len(self.stored), blocks.sum() * width), np.uint8)
        values[:, places] = self.code.values(self.stored, found)
        of_block = np.repeat(np.arange(len(counts)), blocks)
        other = copy(self)
        other.stored, other.columns, other.order = self.code.packed(values), values.shape[1], None
        other.block = (self.block[0], width)
        other = other._with_blocks(lambda shared: shared[:, of_block])
        by_column = places[np.searchsorted(found, stored)]
        if np.array_equal(by_column, np.arange(other.columns)):
            return other
        return SomeColumns(other, by_column)

    def _with_blocks(self, choose: Callable[[NDArray], NDArray]) -> Self:
        """Return the matrix with some of what blocks share."""
        other = copy(self)
        other.scales = choose(self.scales)
        other.zeros = None if self.zeros is None else choose(self.zeros)
        other.biases = None if self.biases is None else choose(self.biases)
        return other

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies, scales and the like included."""
        beside = (self.scales, self.zeros, self.biases, self.order)
        return self.stored.nbytes + sum(array.nbytes for array in beside if array is not None)


def _float32(numbers: NDArray) -> NDArray[np.float32]:
    return numbers.astype(np.float32, copy=False)
