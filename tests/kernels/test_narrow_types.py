"""bfloat16 and int8 against torch and against the plain product with the widened matrix."""

from typing import Any

import numpy as np
import pytest
import torch

from tinystar_np.kernels.bfloat16 import BLOCK_ROWS, bfloat16_product, narrow, widen
from tinystar_np.kernels.int8 import dequantise, int8_product, quantise

SHAPES = [(6, 4), (BLOCK_ROWS - 1, 10), (BLOCK_ROWS, 8), (2 * BLOCK_ROWS + 3, 14), (5, 7)]


def random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def test_rounding_to_bfloat16_is_torchs() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = (np.arange(1000, dtype=np.uint32) << 16) + 0x8000
    x = np.concatenate([bits, ties]).view(np.float32)
    x = np.concatenate([x, np.array([0.0, -0.0, np.inf, -np.inf, 3.4e38], dtype=np.float32)])
    expected = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(widen(narrow(x)), expected)  # NaN where NaN, all else equal


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 5])
def test_bfloat16_product(shape: tuple[int, int], transposed: bool, rows: int) -> None:
    bits = narrow(random(*shape))
    x = random(rows, shape[1] if transposed else shape[0])
    matrix = widen(bits).astype(np.float64)
    expected = x @ (matrix.T if transposed else matrix)
    found = bfloat16_product(x, bits, transposed=transposed)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_product_of_a_view_that_is_not_word_aligned() -> None:
    flat = np.concatenate([np.zeros(1, np.uint16), narrow(random(24))])
    bits, x = flat[1:].reshape(6, 4), random(2, 6)
    np.testing.assert_allclose(bfloat16_product(x, bits, transposed=False), x @ widen(bits), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_int8(shape: tuple[int, int], transposed: bool) -> None:
    weight = random(*shape)
    weight[:, 1] = 0
    weight[2] = 0
    axis = 1 if transposed else 0
    values, scales = quantise(weight, axis)
    assert (np.abs(values).max(axis) == 127)[np.abs(weight).max(axis) > 0].all()
    matrix = dequantise(values, scales, axis)
    assert (np.abs(matrix - weight) <= np.expand_dims(scales, axis) * 0.5001).all()
    x = random(3, shape[1] if transposed else shape[0])
    expected = x @ (matrix.T if transposed else matrix).astype(np.float64)
    found = int8_product(x, values, scales, transposed=transposed)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
