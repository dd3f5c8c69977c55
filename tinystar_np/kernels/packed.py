"""Packed matrices: weights stored in fewer bits than float32.

A packed matrix takes the place of an array (in, out). By definition, its product is that of the float32
matrix that it unpacks to (``unpacked`` in kernels/linear.py); it saves memory, and the time to read it.

The numbers are stored in rows, as the file has them, (out, in) for most linear layers and (V, D) for tables.
``transposed`` says that the matrix to multiply by is the transpose of what is stored. A further type is a
class with ``rows``.
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.bfloat16 import from_bfloat16
from tinystar_np.kernels.codes import Code, spread
from tinystar_np.kernels.int8 import dequantise
from tinystar_np.kernels.ternary import unpack

Rows = slice | NDArray[np.integer]


class PackedMatrix(ABC):
    """A matrix stored in fewer bits than float32.

    stored      the bits, in rows as the file has them
    columns     numbers in an unpacked row
    transposed  whether the matrix to multiply by is the transpose of the stored rows
    """

    element_type: str = "packed"
    """How the numbers are stored, in words to be shown."""

    def __init__(self, stored: NDArray, columns: int, transposed: bool):
        self.stored = stored
        self.columns = columns
        self.transposed = transposed

    @abstractmethod
    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: a slice or indices (...) → float32 (..., columns), a new array."""

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out), as it is multiplied by."""
        rows = len(self.stored)
        return (self.columns, rows) if self.transposed else (rows, self.columns)

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        return self.stored.nbytes

    @property
    def T(self) -> Self:
        """The transpose, of the same bits."""
        other = copy(self)
        other.transposed = not self.transposed
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' × '.join(map(str, self.shape))}, {self.element_type})"


class Bfloat16Matrix(PackedMatrix):
    """A matrix in bfloat16 (kernels/bfloat16.py): half the memory of float32.

    bits        (in, out), or (out, in) with ``transposed``; a view of the mapped file will do
    transposed  whether the matrix to multiply by is the transpose of ``bits``

    >>> matrix = Bfloat16Matrix(np.uint16([[0x3F80, 0x4000]]))
    >>> matrix, matrix.rows(slice(None)).tolist()
    (Bfloat16Matrix(1 × 2, bfloat16), [[1.0, 2.0]])
    """

    element_type = "bfloat16"

    def __init__(self, bits: NDArray[np.uint16], transposed: bool = False):
        super().__init__(bits, bits.shape[1], transposed)

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        return from_bfloat16(self.stored[some])


class Int8Matrix(PackedMatrix):
    """A matrix in 8 bits and a scale per stored row (kernels/int8.py): a quarter of the memory of float32.

    values  (out, in); of a table (V, D)
    scales  one per row of ``values``
    table   whether it is an embedding table, whose rows are looked up

    >>> Int8Matrix(np.int8([[1, 2], [3, 4]]), np.float32([10, 100])).rows(slice(None)).tolist()
    [[10.0, 20.0], [300.0, 400.0]]
    """

    element_type = "int8"

    def __init__(self, values: NDArray[np.int8], scales: NDArray[np.float32], *, table: bool = False):
        super().__init__(values, values.shape[1], not table)
        self.scales = scales

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        return dequantise(self.stored[some], self.scales[some])

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies, scales included."""
        return self.stored.nbytes + self.scales.nbytes


class TernaryMatrix(PackedMatrix):
    """A matrix of −1, 0 and 1 and a scale (kernels/ternary.py): a sixteenth of the memory of float32.

    packed      (R/4, columns), four rows in each row of bytes; a view of the mapped file will do
    scale       what all are multiplied by
    outputs     R, where it is not four times the rows of bytes
    transposed  whether the matrix to multiply by is the transpose of the stored rows

    >>> TernaryMatrix(np.uint8([[164]]), 10.0).rows(slice(None)).ravel().tolist()
    [-10.0, 0.0, 10.0, 10.0]
    """

    element_type = "ternary"

    def __init__(
        self, packed: NDArray[np.uint8], scale: float, outputs: int | None = None, transposed: bool = False
    ):
        super().__init__(packed, packed.shape[1], transposed)
        self.scale = np.float32(scale)
        self.outputs = 4 * len(packed) if outputs is None else outputs

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        return unpack(self.stored, np.arange(self.outputs)[some]) * self.scale

    def part(self, some: slice) -> "TernaryMatrix | NDArray[np.float32]":
        """Return the matrix of some neighbouring stored rows: itself, or unpacked rows."""
        return self if some.indices(self.outputs) == (0, self.outputs, 1) else self.rows(some)

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out), as it is multiplied by."""
        return (self.columns, self.outputs) if self.transposed else (self.outputs, self.columns)


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

    def part(self, some: slice) -> Self:
        """Return the matrix of some neighbouring stored rows, without a copy of their codes."""
        start, stop, _ = some.indices(len(self.stored))
        other = copy(self)
        other.stored = self.stored[start:stop]
        height = self.block[0]
        if start % height == 0 or height >= len(self.stored):
            blocks: Rows = slice(start // height, -(-stop // height))
        else:  # a block is cut through: each row gets scales of its own
            blocks = np.arange(start, stop) // height
            other.block = (1, self.block[1])
        other.scales = self.scales[blocks]
        other.zeros = None if self.zeros is None else self.zeros[blocks]
        other.biases = None if self.biases is None else self.biases[blocks]
        return other

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies, scales and the like included."""
        beside = (self.scales, self.zeros, self.biases, self.order)
        return self.stored.nbytes + sum(array.nbytes for array in beside if array is not None)


def _float32(numbers: NDArray) -> NDArray[np.float32]:
    return numbers.astype(np.float32, copy=False)
