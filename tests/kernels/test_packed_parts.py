"""Parts of packed matrices: the same numbers as those of the whole, still packed."""

from collections.abc import Iterator

import numpy as np
import pytest
from block_matrices import random_block_matrix
from coded_matrices import coded_matrices

from tinystar_np.kernels.bfloat16 import to_bfloat16
from tinystar_np.kernels.block_types import BLOCK_TYPES
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import Code, whole_numbers
from tinystar_np.kernels.int8 import quantise
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix, SomeColumns, TernaryMatrix
from tinystar_np.kernels.ternary import pack

COLUMNS = 512
RUNS = [slice(None), slice(256), slice(256, 512), slice(64, 320), slice(30, 50), slice(3, 500)]
THREE_RUNS = np.concatenate([np.arange(first, first + 64) for first in (64, 192, 384)])
"""The queries, keys and values of some heads, where a file has outputs as columns."""
BY_NUMBERS = [THREE_RUNS, np.random.default_rng(4).permutation(COLUMNS)[:40]]


def each_kind() -> Iterator[PackedMatrix]:
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((24, COLUMNS), dtype=np.float32)
    yield Bfloat16Matrix(to_bfloat16(weight))
    yield Int8Matrix(*quantise(weight), table=True)
    yield TernaryMatrix(pack(draw.integers(-1, 2, weight.shape)), 0.3, 24)
    yield from (random_block_matrix(name, 24, COLUMNS, False) for name in BLOCK_TYPES)
    yield from coded_matrices(COLUMNS, 30)
    yield MatrixInTurns([random_block_matrix("MXFP4", 12, COLUMNS, False) for _ in range(2)])


MATRICES = list(each_kind())
names = [f"{i}-{matrix.element_type}" for i, matrix in enumerate(MATRICES)]
of_each_kind = pytest.mark.parametrize("matrix", MATRICES, ids=names)


@of_each_kind
def test_a_part_has_the_numbers_of_the_whole(matrix: PackedMatrix) -> None:
    whole = matrix.rows(slice(None))
    of_rows = [slice(None), slice(2, 9), slice(20, None)]
    if not isinstance(matrix, MatrixInTurns):
        of_rows += [np.array([0, 1, 5, 6, 20])]
    for rows in of_rows:
        for columns in (*RUNS, *BY_NUMBERS):
            part, expected = matrix.part(rows, columns), whole[rows][:, columns]
            assert isinstance(part, PackedMatrix)
            np.testing.assert_array_equal(part.rows(slice(None)), expected)
            np.testing.assert_array_equal(part.rows(np.array([2, 0])), expected[[2, 0]])
            assert part.shape == (expected.shape[::-1] if part.transposed else expected.shape)
            assert part.T.shape == part.shape[::-1]
            np.testing.assert_array_equal(unpacked(part.T), unpacked(part).T)
            again = part.part(slice(1, 3), slice(5, 17))
            np.testing.assert_array_equal(again.rows(slice(None)), expected[1:3, 5:17])


@of_each_kind
def test_halves_take_half(matrix: PackedMatrix) -> None:
    for columns in (slice(256), slice(256, 512)):
        half = matrix.part(columns=columns)
        most = 0.5 * matrix.nbytes
        if isinstance(matrix, CodedMatrix | Int8Matrix):
            most += 4 * matrix.scales.shape[0]  # rows with one scale
        if isinstance(matrix, CodedMatrix) and matrix.block[1] == 100:
            most *= 1.25  # 256 is no border of blocks
        if isinstance(matrix, CodedMatrix) and matrix.order is not None:
            most *= 1.5  # each half has columns of every group, filled up to whole blocks
            assert isinstance(half, SomeColumns)
        assert half.nbytes <= most


def test_blocks_that_are_cut_through_become_smaller() -> None:
    codes = np.arange(64, dtype=np.uint8).reshape(1, 64)  # 128 columns
    matrix = CodedMatrix(codes, whole_numbers(4), np.float32([[1, 2]]), block=(1, 64))
    part = matrix.part(columns=slice(48, 128))
    assert isinstance(part, CodedMatrix)
    assert part.block == (1, 16)
    assert part.scales.tolist() == [[1, 2, 2, 2, 2]]
    assert np.shares_memory(part.stored, codes)


def test_columns_by_their_numbers_take_their_share() -> None:
    """Where runs of them fill blocks, they are a matrix in blocks again."""
    matrix = next(m for m in MATRICES if isinstance(m, CodedMatrix) and m.block == (1, 32))
    part = matrix.part(columns=THREE_RUNS)
    assert isinstance(part, CodedMatrix)
    assert part.nbytes == matrix.nbytes * len(THREE_RUNS) // COLUMNS


def test_columns_in_another_order_are_filled_up() -> None:
    order = np.random.default_rng(1).permutation(1024)
    codes = np.random.default_rng(2).integers(0, 256, (8, 512), dtype=np.uint8)
    scales = np.random.default_rng(3).standard_normal((8, 8), dtype=np.float32).astype(np.float16)
    high_first = Code(4, whole_numbers(4).numbers, high_first=True)
    for code in (whole_numbers(4), high_first):
        matrix = CodedMatrix(codes, code, scales, block=(1, 128), order=order)
        part = matrix.part(columns=slice(512, 1024))
        assert isinstance(part, SomeColumns)
        assert part.nbytes < 0.8 * matrix.nbytes
        np.testing.assert_array_equal(part.rows(slice(None)), matrix.rows(slice(None))[:, 512:])
