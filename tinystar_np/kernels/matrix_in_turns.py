"""A matrix whose outputs are those of several others in turns, without a copy of any.

    stored row   0       1       2       3       4    …
    is row       0 of A  0 of B  1 of A  1 of B  2 of A

    y_0, y_2, … = x A        y_1, y_3, … = x B

In gpt-oss gates and ups alternate like this; GGUF files keep them apart. All parts have the same
inputs and as many outputs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.packed import PackedMatrix, Rows


class MatrixInTurns(PackedMatrix):
    """A matrix made of packed ones.

    parts  matrices whose stored rows alternate, all alike transposed or not

    >>> from tinystar_np.kernels.block_matrix import BlockMatrix
    >>> a, b = (BlockMatrix(np.float32(rows).view(np.uint8), "F32") for rows in ([[1], [3]], [[2], [4]]))
    >>> MatrixInTurns([a, b]).rows(slice(None)).tolist()
    [[1.0], [2.0], [3.0], [4.0]]
    """

    def __init__(self, parts: Sequence[PackedMatrix]):
        super().__init__(parts[0].stored, parts[0].columns, parts[0].transposed)
        self.parts = list(parts)

    def rows(self, some: Rows) -> NDArray[np.float32]:
        """Unpack some of the stored rows: (...) → (..., columns)."""
        numbers = np.arange(self._count)[some]
        out = np.empty((*numbers.shape, self.columns), np.float32)
        for turn, part in enumerate(self.parts):
            of_this = numbers % len(self.parts) == turn
            out[of_this] = part.rows(numbers[of_this] // len(self.parts))
        return out

    def part(self, rows: Rows = slice(None), columns: Rows = slice(None)) -> "MatrixInTurns":
        """Return the matrix of some neighbouring stored rows and columns, without a copy."""
        assert isinstance(rows, slice), "rows in turns are taken as a run"
        start, stop, _ = rows.indices(self._count)
        turns = len(self.parts)
        parts = []
        for first in range(start, start + turns):
            count = max(0, -(-(stop - first) // turns))
            some = slice(first // turns, first // turns + count)
            parts.append(self.parts[first % turns].part(some, columns))
        return MatrixInTurns(parts)

    @property
    def _count(self) -> int:
        return sum(len(part.stored) for part in self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out), as it is multiplied by."""
        return (self.columns, self._count) if self.transposed else (self._count, self.columns)

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        return sum(part.nbytes for part in self.parts)
