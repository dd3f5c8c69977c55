"""Blocks widened quickly are what the kernel's definition says, bit for bit; products, within rounding."""

import numpy as np
import pytest
from block_matrices import IN_GROUPS, random_block_matrix, random_blocks

from tinystar_np import fast
from tinystar_np.fast import blocks
from tinystar_np.fast.block_forms import FORMS
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES, BlockType


def assert_widened(matrix: BlockMatrix, some: slice) -> None:
    expected = matrix.rows(some)
    if matrix.element_type in FORMS:
        transposed = np.full((matrix.columns, len(expected)), np.nan, np.float32)
        rows = slice(*some.indices(len(matrix.stored))[:2])
        blocks.widen(matrix, slice(0, matrix.columns // kind_of(matrix).weights), rows, transposed)
        wide = np.ascontiguousarray(transposed.T)
    else:
        wide = np.full(expected.shape, np.nan, np.float32)
        blocks.widen_rows(matrix, some, wide)
    missing = np.isnan(expected)  # of a NaN only that it is one: a minimum is added with its sign changed
    np.testing.assert_array_equal(np.isnan(wide), missing)
    np.testing.assert_array_equal(wide.view(np.uint32)[~missing], expected.view(np.uint32)[~missing])


def kind_of(matrix: BlockMatrix) -> BlockType:
    return BLOCK_TYPES[matrix.element_type]


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_any_bytes(element_type: str) -> None:
    kind = BLOCK_TYPES[element_type]
    rows = random_blocks(element_type, 3000 * 2).reshape(3000, 2 * kind.bytes)
    assert_widened(BlockMatrix(rows, element_type, True), slice(100, 2900))


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_every_byte_at_every_place(element_type: str) -> None:
    (block,) = random_blocks(element_type, 1)
    rows = np.tile(block, (len(block), 256, 1))
    for place in range(len(block)):
        rows[place, :, place] = np.arange(256)
    assert_widened(BlockMatrix(rows.reshape(-1, len(block)), element_type, True), slice(None))


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_bytes_at_an_odd_place_of_a_file(element_type: str) -> None:
    kind = BLOCK_TYPES[element_type]
    rows = random_blocks(element_type, 40).reshape(20, 2 * kind.bytes)
    shifted = np.empty(rows.size + 1, np.uint8)[1:].reshape(rows.shape)
    shifted[...] = rows
    shifted.flags.writeable = False
    assert_widened(BlockMatrix(shifted, element_type, True), slice(3, 17))


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_products_are_as_exact_as_those_of_float32(element_type: str) -> None:
    matrix = random_block_matrix(element_type, 400, 2048)
    wide = matrix.rows(slice(None))
    x = np.random.default_rng(0).standard_normal((1, 2048), dtype=np.float32)
    exact = x.astype(np.float64) @ wide.T.astype(np.float64)
    scale = np.abs(x).astype(np.float64) @ np.abs(wide.T).astype(np.float64)
    errors = np.abs(fast.matmul(x, matrix) - exact) / scale
    of_float32 = np.abs(x @ wide.T - exact) / scale
    assert errors.max() < max(4e-7, 3 * of_float32.max())


@pytest.mark.parametrize("element_type", IN_GROUPS)
def test_the_first_product_lays_a_matrix_out_and_changes_nothing_else(element_type: str) -> None:
    matrix = random_block_matrix(element_type, 40, 512)
    before, x = matrix.stored, np.ones((1, 512), np.float32)
    rows = matrix.rows(slice(None))
    first = fast.matmul(x, matrix)
    assert blocks.is_by_columns(matrix)
    np.testing.assert_array_equal(matrix.stored, before)
    np.testing.assert_array_equal(matrix.rows(slice(None)), rows)
    np.testing.assert_array_equal(fast.matmul(x, matrix), first)
    np.testing.assert_array_equal(matrix.part(slice(8, 24)).rows(np.array([3])), rows[11:12])
    np.testing.assert_allclose(
        fast.matmul(x, matrix.part(slice(8, 24))), first[:, 8:24], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("vectors", [1, 3, 60])
def test_where_memory_is_short_a_matrix_stays_where_it_is(
    vectors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "usable_memory", lambda: 1 << 20)
    matrix = random_block_matrix("Q4_K", 900, 1024)
    before = matrix.stored
    x = np.random.default_rng(0).standard_normal((vectors, 1024), dtype=np.float32)
    y = fast.matmul(x, matrix)
    assert matrix.stored is before
    np.testing.assert_allclose(y, x @ matrix.rows(slice(None)).T, rtol=0, atol=2e-5 * np.abs(y).max())


def test_every_type_with_groups_has_a_quick_form() -> None:
    assert set(FORMS) == set(IN_GROUPS)


def test_a_matrix_of_blocks() -> None:
    matrix = random_block_matrix("Q4_K", 6, 512)
    assert matrix.shape == (512, 6)
    assert matrix.T.shape == (6, 512)
    assert matrix.nbytes == 6 * 2 * 144
    assert matrix.rows(np.array([[0, 5]])).shape == (1, 2, 512)
    np.testing.assert_array_equal(matrix.rows(np.array([5, 0]))[0], matrix.rows(slice(None))[5])
