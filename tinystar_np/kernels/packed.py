"""Packed matrices: weights stored in fewer bits than float32.

A packed matrix takes the place of an array (in, out). By definition, its product is that of the float32
matrix that it unpacks to (``unpacked`` in kernels/linear.py); it saves memory, and the time to read it.

The numbers are stored in rows, as the file has them, (out, in) for most linear layers and (V, D) for tables.
``transposed`` says that the matrix to multiply by is the transpose of what is stored. A further type is a
class with ``rows``, and with ``part`` where its bits are not one number after the other.

**A part of a packed matrix** is packed as well, of the same bits: where several processes share a product
(ranks/), each has some rows, y_o = W_o x, or some columns, y = Σ_r W_r x_r. Rows are stored one by one. Of
columns in blocks with a scale, those between two borders of blocks are a matrix of such blocks. Where a part
ends within a block, it has the whole block, and the columns too many are multiplied by 0 (``SomeColumns``).
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.bfloat16 import from_bfloat16
from tinystar_np.kernels.int8 import dequantise
from tinystar_np.kernels.ternary import pack, unpack

Rows = slice | NDArray[np.integer]
"""Some rows or columns: a run, or their numbers."""


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

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> "PackedMatrix":
        """Return the matrix of some stored rows and columns, without a copy where it may.

        What is given by its numbers is copied.
        """
        other = copy(self)
        other.stored = self.stored[rows][:, columns]
        other.columns = other.stored.shape[1]
        return other

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

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> PackedMatrix:
        """Return the matrix of some rows and columns: rows keep their scales."""
        other = copy(self)
        other.stored, other.scales = self.stored[rows][:, columns], self.scales[rows]
        other.columns = other.stored.shape[1]
        return other

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

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> PackedMatrix:
        """Return the matrix of some rows and columns: where not of all rows, a copy, as four share a byte."""
        other = copy(self)
        numbers = np.arange(self.outputs)[rows]
        if len(numbers) < self.outputs:
            values = unpack(self.stored[:, columns], numbers)
            other.stored, other.outputs = pack(values.astype(np.int8)), len(numbers)
        else:
            other.stored = self.stored[:, columns]
        other.columns = other.stored.shape[1]
        return other

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out), as it is multiplied by."""
        return (self.columns, self.outputs) if self.transposed else (self.outputs, self.columns)


class SomeColumns(PackedMatrix):
    """Some columns of a packed matrix that has more: those between are multiplied by 0.

    A block that several processes have a part of is whole in each, since its numbers share a scale.

    matrix  the packed matrix
    places  which of its columns are those of this one: a slice, or numbers (columns,)

    >>> wide = Int8Matrix(np.int8([[1, 2, 3]]), np.float32([10]))
    >>> SomeColumns(wide, slice(1, 3)).rows(slice(None)).tolist()
    [[20.0, 30.0]]
    """

    def __init__(self, matrix: PackedMatrix, places: slice | NDArray[np.integer]):
        columns = len(np.arange(matrix.columns)[places])
        super().__init__(np.empty((len(matrix.stored), 0), np.uint8), columns, matrix.transposed)  # no bits
        self.element_type = matrix.element_type
        self.matrix, self.places = matrix, places

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        return np.ascontiguousarray(self.matrix.rows(some)[..., self.places])

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> PackedMatrix:
        """Return the matrix of some rows and columns."""
        places = np.arange(self.matrix.columns)[self.places][columns]
        return SomeColumns(self.matrix.part(rows), places)

    def spread(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put the numbers of vectors (T, columns) at their places, and 0 at others: (T, columns of all)."""
        wide = np.zeros((len(x), self.matrix.columns), x.dtype)
        wide[:, self.places] = x
        return wide

    @property
    def T(self) -> Self:
        """The transpose, of the same bits."""
        other = super().T
        other.matrix = self.matrix.T
        return other

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        return self.matrix.nbytes
