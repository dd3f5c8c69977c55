"""A matrix whose rows are blocks of a few weights with scales, as a GGUF file has them.

    stored row   | d q q q … | d q q q … | d q q q … |        columns = blocks in a row × weights of a block

Blocks follow the inputs of an output, (out, in), or the numbers of a token's vector, (V, D). So a row is
unpacked by itself, and a part of a row down to one block.
"""

from copy import copy

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.block_types import BLOCK_TYPES, unpack
from tinystar_np.kernels.packed import PackedMatrix, Rows, SomeColumns


class BlockMatrix(PackedMatrix):
    """A matrix in blocks (kernels/block_types.py): 2.6 to 8.5 bits for each weight of most types.

    blocks        (out, bytes of a row), or of a table (V, bytes of a row); a view of the mapped file will do
    element_type  of ``BLOCK_TYPES``, such as "Q4_K"
    transposed    whether the matrix to multiply by is the transpose of the rows, as for all but tables

    >>> matrix = BlockMatrix(np.uint8([[0x00, 0x3C, *range(32)]]), "Q8_0")  # d = 1, q = 0, 1, …, 31
    >>> matrix, matrix.rows(slice(None))[0, :4].tolist()
    (BlockMatrix(1 × 32, Q8_0), [0.0, 1.0, 2.0, 3.0])
    """

    def __init__(self, blocks: NDArray[np.uint8], element_type: str, transposed: bool = False):
        kind = BLOCK_TYPES[element_type]
        super().__init__(blocks, blocks.shape[1] // kind.bytes * kind.weights, transposed)
        self.element_type = element_type

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        return unpack(self.element_type, self.stored[some])

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> PackedMatrix:
        """Return the matrix of some rows and columns, with whole blocks; rows by their numbers are copied.

        >>> matrix = BlockMatrix(np.uint8([[0x00, 0x3C, *range(32), 0x00, 0x40, *range(32)]]), "Q8_0")
        >>> matrix.part(columns=slice(32, 64)), matrix.part(columns=slice(40, 64))
        (BlockMatrix(1 × 32, Q8_0), SomeColumns(1 × 24, Q8_0))
        """
        if not isinstance(columns, slice):  # no file has blocks along outputs, where that would be needed
            return SomeColumns(self.part(rows), columns)
        kind = BLOCK_TYPES[self.element_type]
        start, stop, _ = columns.indices(self.columns)
        left, right = start // kind.weights, -(-stop // kind.weights)
        other = copy(self)
        other.stored = self.stored[rows]
        if (left, right) != (0, self.columns // kind.weights):
            other.stored = other.stored[:, left * kind.bytes : right * kind.bytes]
            other.columns = (right - left) * kind.weights
        if other.columns == stop - start:
            return other
        first = start - left * kind.weights
        return SomeColumns(other, slice(first, first + stop - start))
