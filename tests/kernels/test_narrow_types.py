"""bfloat16 and int8 against torch and against the plain product with the widened matrix."""

from typing import Any

import numpy as np
import pytest
import torch

from tinystar_np.kernels.bfloat16 import bfloat16_product, narrow, widen
from tinystar_np.kernels.int8 import dequantise, int8_product, quantise

BLOCK = 60  # numbers, so that small matrices have several blocks
SHAPES = [(6, 4), (5, 12), (11, 10), (31, 4), (3, 120), (5, 7)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinystar_np.kernels.bfloat16.BLOCK", BLOCK // 2)
    monkeypatch.setattr("tinystar_np.kernels.int8.BLOCK", BLOCK)


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
@pytest.mark.parametrize("rows", [1, 3])
def test_int8(shape: tuple[int, int], rows: int) -> None:
    weight = random(*shape)
    weight[:, 1] = 0
    weight[2] = 0
    values, scales = quantise(weight)
    assert (np.abs(values).max(axis=0) == 127)[np.abs(weight).max(axis=0) > 0].all()
    matrix = dequantise(values, scales)
    assert (np.abs(matrix - weight) <= scales * 0.5001).all()
    x = random(rows, shape[0])
    found = int8_product(x, values) * scales
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x @ matrix.astype(np.float64), rtol=1e-5, atol=2e-5)
