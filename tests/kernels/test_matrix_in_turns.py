"""Matrices whose rows alternate: the same as one array of these rows."""

import numpy as np
import pytest
from block_matrices import random_block_matrix

from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns

PARTS = [random_block_matrix("Q8_0", 9, 64) for _ in range(3)]
ROWS = np.stack([part.rows(slice(None)) for part in PARTS], axis=1).reshape(27, 64)


def test_rows() -> None:
    matrix = MatrixInTurns(PARTS)
    for some in (slice(None), slice(4, 20), slice(25, 40), slice(3, 3)):
        np.testing.assert_array_equal(matrix.rows(some), ROWS[some])
    for some in ([5], [[0, 26], [3, 3]], []):
        chosen = np.array(some, np.int64)
        np.testing.assert_array_equal(matrix.rows(chosen), ROWS[chosen])


def test_shape_transpose_and_size() -> None:
    matrix = MatrixInTurns(PARTS)
    assert (matrix.shape, matrix.T.shape) == ((64, 27), (27, 64))
    assert matrix.nbytes == 27 * 2 * 34
    np.testing.assert_array_equal(unpacked(matrix), ROWS.T)
    np.testing.assert_array_equal(unpacked(matrix.T), ROWS)


@pytest.mark.parametrize("some", [(0, 27), (4, 20), (5, 6), (2, 4), (7, 7), (26, 27)])
def test_a_part_is_no_copy(some: tuple[int, int]) -> None:
    part = MatrixInTurns(PARTS).part(slice(*some))
    np.testing.assert_array_equal(part.rows(slice(None)), ROWS[slice(*some)])
    for one in part.parts:
        assert not len(one.stored) or any(np.shares_memory(one.stored, whole.stored) for whole in PARTS)
