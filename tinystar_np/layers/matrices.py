"""Weight matrices that are not stored as float32. They multiply float32 vectors and give float32 vectors.

An ordinary matrix is a NumPy array. These stand in its place where memory counts: a layer asks them for a
product, or for single rows, and does not see how the numbers are kept.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels import bfloat16, int8
from tinystar_np.layers.products import narrow_product


class NarrowMatrix(Protocol):
    """What a layer asks of a matrix that is no float32 array."""

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out), as it is multiplied by."""

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""

    @property
    def stored(self) -> NDArray:
        """The integers that stand for its numbers, in the order of the file."""

    @property
    def T(self) -> "NarrowMatrix":
        """The transpose, of the same numbers."""

    def product(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply vectors by it: (T, in) → (T, out)."""

    def rows(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Look up rows: (...) → (..., out)."""


class Bfloat16Matrix:
    """A matrix in bfloat16: half the memory of float32.

    bits        (in, out), or (out, in) with ``transposed``; a view of the mapped file will do
    transposed  whether the transpose is what is meant
    """

    def __init__(self, bits: NDArray[np.uint16], transposed: bool = False):
        self.stored = bits
        self._transposed = transposed
        rows, columns = bits.shape
        self.shape: tuple[int, int] = (columns, rows) if transposed else (rows, columns)
        self.nbytes = bits.nbytes

    @property
    def T(self) -> "Bfloat16Matrix":
        """The transpose, of the same bits."""
        return Bfloat16Matrix(self.stored, not self._transposed)

    def product(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply vectors by it: (T, in) → (T, out)."""
        return narrow_product(x, self.stored, self._transposed, bfloat16.widen)

    def rows(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Look up rows: (...) → (..., out)."""
        return bfloat16.widen(self.stored.T[ids] if self._transposed else self.stored[ids])


class Int8Matrix:
    """A matrix in 8 bits and a scale per output: a quarter of the memory of float32.

    values  (out, in), in either order of memory; of a table (V, D)
    scales  one per row of ``values``
    table   whether it is to be looked up, and its transpose multiplied by
    """

    def __init__(self, values: NDArray[np.int8], scales: NDArray[np.float32], *, table: bool = False):
        self.stored, self._scales = values, scales
        self._table = table
        rows, columns = values.shape
        self.shape: tuple[int, int] = (rows, columns) if table else (columns, rows)
        self.nbytes = values.nbytes + scales.nbytes

    @property
    def T(self) -> "Int8Matrix":
        """The transpose, of the same numbers."""
        return Int8Matrix(self.stored, self._scales, table=not self._table)

    def product(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply vectors by it: (T, in) → (T, out)."""
        if self._table:
            raise TypeError("A table is looked up; its transpose can be multiplied by.")
        by_outputs = self.stored.flags.c_contiguous
        stored = self.stored if by_outputs else self.stored.T
        return narrow_product(x, stored, by_outputs, int8.widen, self._scales)

    def rows(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Look up rows: (...) → (..., out)."""
        if not self._table:
            raise TypeError("Only a table with a scale per row can be looked up.")
        found = int8.dequantise(self.stored[ids.ravel()], self._scales[ids.ravel()])
        return found.reshape(*ids.shape, found.shape[1])
