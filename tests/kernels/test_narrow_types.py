"""bfloat16 and int8 against torch, and their products against the plain product with the widened matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tinystar_np import threads
from tinystar_np.kernels.bfloat16 import narrow, widen
from tinystar_np.kernels.int8 import dequantise, quantise
from tinystar_np.layers_old import products
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix

ROWS = [*range(13), 13, 48, 49, 63, 64, 65, 191, 192, 512]
SHAPES = [(6, 4), (5, 12), (11, 10), (31, 4), (3, 120), (5, 7), (1, 1), (0, 3), (3, 0), (70, 130)]


@pytest.fixture(autouse=True, params=[1, 3], ids=["one thread", "threads"])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small matrices have several parts, and so many threads."""
    monkeypatch.setattr("tinystar_np.kernels.widened.BLOCK", 60)
    monkeypatch.setattr("tinystar_np.kernels.widened.LARGEST_BLOCK", 240)
    monkeypatch.setattr("tinystar_np.kernels.int8.BLOCK", 60)
    for name in ("LEAST_NARROW", "LEAST_WEIGHTS"):
        monkeypatch.setattr(products, name, 0)
    threads._machine()  # as many as BLAS has, before it is told otherwise
    monkeypatch.setattr(products, "shares", lambda count: _parts(count, request.param))


def _parts(count: int, number: int) -> list[slice]:
    return [slice(count * i // number, count * (i + 1) // number) for i in range(number)]


def random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def int8(weight: np.ndarray) -> tuple[PackedMatrix, np.ndarray]:
    """A matrix (in, out) in 8 bits, and by the definition."""
    values, scales = quantise(weight.T)
    return Int8Matrix(values, scales), dequantise(values, scales).T


def bfloat16(weight: np.ndarray) -> tuple[PackedMatrix, np.ndarray]:
    bits = narrow(weight)
    return Bfloat16Matrix(bits), widen(bits)


def bfloat16_transposed(weight: np.ndarray) -> tuple[PackedMatrix, np.ndarray]:
    bits = narrow(np.ascontiguousarray(weight.T))
    return Bfloat16Matrix(bits, transposed=True), widen(bits).T


TYPES = [int8, bfloat16, bfloat16_transposed]
Type = Callable[[np.ndarray], tuple[PackedMatrix, np.ndarray]]


def test_rounding_to_bfloat16_is_torchs() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = (np.arange(1000, dtype=np.uint32) << 16) + 0x8000
    x = np.concatenate([bits, ties]).view(np.float32)
    x = np.concatenate([x, np.array([0.0, -0.0, np.inf, -np.inf, 3.4e38], dtype=np.float32)])
    expected = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(widen(narrow(x)), expected)  # NaN where NaN, all else equal


@pytest.mark.parametrize("into", [False, True])
def test_every_bfloat16_is_widened_exactly(into: bool) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    out = np.full(bits.shape, np.nan, dtype=np.float32) if into else None
    found = widen(bits, out)
    expected = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert out is None or np.shares_memory(out, found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("narrowed", TYPES)
def test_product(shape: tuple[int, int], narrowed: Type) -> None:
    if 0 in shape and narrowed is int8:
        matrix: PackedMatrix = Int8Matrix(np.empty(shape[::-1], np.int8), np.ones(shape[1], np.float32))
        wide = np.empty(shape)
    else:
        matrix, wide = narrowed(random(*shape))
    for rows in ROWS:
        x = random(rows, shape[0])
        found = matrix.product(x)
        assert found.dtype == np.float32
        assert found.shape == (rows, shape[1])
        np.testing.assert_allclose(found, x @ wide.astype(np.float64), rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("rows", [1, 5, 64, 200])
@pytest.mark.parametrize("narrowed", TYPES)
def test_product_of_vectors_that_lie_apart(rows: int, narrowed: Type) -> None:
    matrix, _ = narrowed(random(70, 130))
    x = random(rows, 70)
    expected = matrix.product(x)
    apart = random(2 * rows, 140)[::2, ::2]
    apart[...] = x
    for form in (apart, np.asfortranarray(x)):
        np.testing.assert_array_equal(matrix.product(form), expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 64, 200])
def test_product_by_bits_that_lie_anywhere(rows: int, transposed: bool) -> None:
    """A view that begins within a word, one of every second number, and one in the other order of memory."""
    bits = narrow(random(33, 20))
    x = random(rows, 20 if transposed else 33)
    moved = np.concatenate([np.zeros(1, np.uint16), bits.ravel()])[1:].reshape(bits.shape)
    apart = np.zeros((66, 40), np.uint16)[::2, ::2]
    apart[...] = bits
    wide = widen(bits).astype(np.float64)
    for form in (moved, apart, np.asfortranarray(bits)):
        found = Bfloat16Matrix(form, transposed).product(x)
        np.testing.assert_allclose(found, x @ (wide.T if transposed else wide), rtol=1e-5, atol=3e-5)


@pytest.mark.filterwarnings("ignore:invalid value")  # of the other threads as well
@pytest.mark.parametrize("rows", [1, 5, 64, 200])
@pytest.mark.parametrize("narrowed", TYPES)
def test_what_is_no_number_stays_in_its_row(rows: int, narrowed: Type) -> None:
    matrix, wide = narrowed(random(70, 130))
    x = random(rows, 70)
    expected = matrix.product(x)
    x[0, 3], x[-1, 5] = np.nan, np.inf
    found, plain = matrix.product(x), x @ wide
    np.testing.assert_array_equal(np.isnan(found), np.isnan(plain))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(plain))
    np.testing.assert_allclose(found[1:-1], expected[1:-1], rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in shape])
def test_int8(shape: tuple[int, int]) -> None:
    weight = random(*shape)
    weight[-1] = 0
    weight[:, -1] = 0
    for form in (weight, np.asfortranarray(weight)):
        values, scales = quantise(form)
        assert values.flags.c_contiguous
        assert (np.abs(values).max(axis=1) == 127)[np.abs(weight).max(axis=1) > 0].all()
        matrix = dequantise(values, scales)
        assert (np.abs(matrix - weight) <= scales[:, None] * 0.5001).all()


@pytest.mark.parametrize("ids", [[], [3], [[0, 6, 6], [2, 1, 0]]])
def test_a_table_is_looked_up_and_its_transpose_multiplied_by(ids: Any) -> None:
    values, scales = quantise(random(7, 12))
    table = Int8Matrix(values, scales, table=True)
    ids = np.array(ids, dtype=np.int64)
    np.testing.assert_array_equal(table.rows(ids), dequantise(values, scales)[ids])
    x = random(3, 12)
    np.testing.assert_allclose(table.T.product(x), x @ dequantise(values, scales).T, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError):
        table.product(x)
    with pytest.raises(TypeError):
        table.T.rows(ids)
