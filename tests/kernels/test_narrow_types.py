"""bfloat16 and int8 against torch, and their products against the plain product with the widened matrix."""

from typing import Any

import numpy as np
import pytest
import torch

from tinystar_np import fast
from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.kernels.int8 import dequantise, quantise
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix

SHAPES = [(6, 4), (31, 4), (3, 120), (1, 1), (70, 130)]


def random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def test_rounding_to_bfloat16_is_torchs() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = (np.arange(1000, dtype=np.uint32) << 16) + 0x8000
    x = np.concatenate([bits, ties]).view(np.float32)
    x = np.concatenate([x, np.array([0.0, -0.0, np.inf, -np.inf, 3.4e38], dtype=np.float32)])
    expected = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(x)), expected)  # NaN where NaN, all else equal


def test_every_bfloat16_is_exact_in_float32() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(from_bfloat16(bits).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("vectors", [1, 5, 64, 200])
@pytest.mark.parametrize("transposed", [False, True])
def test_product_by_bits_that_lie_anywhere(vectors: int, transposed: bool) -> None:
    """A view that begins within a word, one of every second number, and one in the other order of memory."""
    bits = to_bfloat16(random(33, 20))
    x = random(vectors, 20 if transposed else 33)
    moved = np.concatenate([np.zeros(1, np.uint16), bits.ravel()])[1:].reshape(bits.shape)
    apart = np.zeros((66, 40), np.uint16)[::2, ::2]
    apart[...] = bits
    wide = from_bfloat16(bits).astype(np.float64)
    for form in (moved, apart, np.asfortranarray(bits)):
        found = fast.matmul(x, Bfloat16Matrix(form, transposed))
        np.testing.assert_allclose(found, x @ (wide.T if transposed else wide), rtol=1e-5, atol=3e-5)


@pytest.mark.filterwarnings("ignore:invalid value")  # of the other threads as well
@pytest.mark.parametrize("vectors", [1, 5, 64, 200])
def test_what_is_no_number_stays_in_its_row(vectors: int) -> None:
    weight = random(70, 130)
    for matrix in (Int8Matrix(*quantise(weight.T)), Bfloat16Matrix(to_bfloat16(weight))):
        x = random(vectors, 70)
        expected = fast.matmul(x, matrix)
        x[0, 3], x[-1, 5] = np.nan, np.inf
        found, plain = fast.matmul(x, matrix), x @ unpacked(matrix)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(plain))
        np.testing.assert_array_equal(np.isinf(found), np.isinf(plain))
        np.testing.assert_allclose(found[1:-1], expected[1:-1], rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8(shape: tuple[int, int]) -> None:
    weight = random(*shape)
    weight[-1] = 0
    weight[:, -1] = 0
    for form in (weight, np.asfortranarray(weight)):
        values, scales = quantise(form)
        assert (np.abs(values).max(axis=1) == 127)[np.abs(weight).max(axis=1) > 0].all()
        matrix = dequantise(values, scales)
        assert (np.abs(matrix - weight) <= scales[:, None] * 0.5001).all()
