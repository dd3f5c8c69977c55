"""Packed matrices: weights stored in fewer bits than float32.

A packed matrix takes the place of an array (in, out). By definition, its product is that of the float32
matrix that it unpacks to (``unpacked`` in kernels/linear.py); it saves memory, and the time to read it.

The numbers are stored in rows, as the file has them, (out, in) for most linear layers and (V, D) for tables.
``transposed`` says that the matrix to multiply by is the transpose of what is stored. A further type is a
class with ``rows``.
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.bfloat16 import from_bfloat16
from tinystar_np.kernels.int8 import dequantise

Rows = slice | NDArray[np.integer]


class PackedMatrix(ABC):
    """A matrix stored in fewer bits than float32.

    stored      the bits, in rows as the file has them
    columns     numbers in an unpacked row
    transposed  whether the matrix to multiply by is the transpose of the stored rows
    """

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


class Bfloat16Matrix(PackedMatrix):
    """A matrix in bfloat16 (kernels/bfloat16.py): half the memory of float32.

    bits        (in, out), or (out, in) with ``transposed``; a view of the mapped file will do
    transposed  whether the matrix to multiply by is the transpose of ``bits``
    """

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
    """

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
