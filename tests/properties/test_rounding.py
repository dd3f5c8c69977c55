"""Narrow weights: how far they may be from the weights that they stand for, and what comes of it.

int8: half a step, scale / 2, and what float32 rounds in the division and in the product with the scale,
each at most 127 · 2⁻²⁴ steps: together (1/2 + 2⁻¹⁶) · scale.
bfloat16: half a unit in the last of 8 significant bits, 2⁻⁸ of a weight at most; below float32's smallest
ordinary number, half of the smallest step, 2⁻¹³⁴.
A product sums such errors, each times its input, and is off by no more than the sum of their sizes.
"""

import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st
from small_models import FIXED

from tinystar_np import fast
from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.kernels.int8 import dequantise, quantise
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix

LARGEST = float(np.float32(3e38))  # float32 goes a little further; beyond 3.39e38 the nearest bfloat16 is inf
numbers = st.floats(-LARGEST, LARGEST, width=32)
weights = st.lists(numbers, min_size=1, max_size=30)
seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([1e-30, 1e-3, 1.0, 1e30])


def random_matrix(seed: int, size: float) -> np.ndarray:
    """Outputs of very different sizes, some of them with one weight that is far larger than the others."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((300, 10), dtype=np.float32) * np.float32(size)
    weight *= np.exp(rng.normal(0, 2, 10)).astype(np.float32)
    weight[rng.integers(300, size=3), [0, 1, 2]] *= np.float32(30)
    return weight


@FIXED
@given(weights)
@example([0.0])
@example([1e-30, -1.0])
def test_an_int8_weight_is_off_by_half_a_step(row: list[float]) -> None:
    weight = np.array(row, dtype=np.float32)[None]
    largest = np.abs(weight).max()
    assume(largest == 0 or largest > 127 * np.finfo(np.float32).tiny)  # see the test below
    values, scales = quantise(weight)
    assert np.abs(values.astype(int)).max() <= 127
    assert scales[0] == (largest / np.float32(127) if largest > 0 else 1)
    step = scales.astype(np.float64)
    error = np.abs(dequantise(values, scales).astype(np.float64) - weight)
    assert (error <= step * (0.5 + 2.0**-16)).all()
    assert (error <= 0.004 * largest).all()


def test_int8_weights_that_are_hardly_numbers() -> None:
    weight = np.array([[2.66e-43, -1e-43]], dtype=np.float32)
    values, scales = quantise(weight)
    error = np.abs(dequantise(values, scales).astype(np.float64) - weight)
    assert (error <= scales * 0.50002).all()


@FIXED
@given(seeds, sizes, st.sampled_from([1, 4]))
def test_an_int8_product_is_off_by_the_sum_of_its_errors(seed: int, size: float, rows: int) -> None:
    weight, x = (
        random_matrix(seed, size),
        np.random.default_rng(seed + 1).standard_normal((rows, 300)).astype("f4"),
    )
    values, scales = quantise(weight.T)
    found = fast.matmul(x, Int8Matrix(values, scales))
    wide_x, step = x.astype(np.float64), scales.astype(np.float64)
    # The kernel's own sums of 300 products, of which each is rounded once and each partial sum once.
    rounding = 300 * 2.0**-23 * (np.abs(wide_x) @ np.abs(weight.astype(np.float64)))
    allowed = np.abs(wide_x).sum(axis=1, keepdims=True) * step * (0.5 + 2.0**-16) + rounding
    error = np.abs(found - wide_x @ weight)
    assert (error <= allowed).all()
    # Errors of random sign: a fraction of the bound, as that of a random walk is, but not nothing.
    assert (error / allowed).max() > 1e-3


@FIXED
@given(weights)
@example([1e-44, -1e-40, 0.0, -0.0])
def test_a_bfloat16_weight_is_off_by_half_a_unit_of_eight_bits(row: list[float]) -> None:
    weight = np.array(row, dtype=np.float32)
    error = np.abs(from_bfloat16(to_bfloat16(weight)).astype(np.float64) - weight)
    assert (error <= np.maximum(2.0**-8 * np.abs(weight.astype(np.float64)), 2.0**-134)).all()


@FIXED
@given(seeds, sizes, st.booleans())
def test_a_bfloat16_product_is_off_by_the_sum_of_its_errors(seed: int, size: float, transposed: bool) -> None:
    weight, x = (
        random_matrix(seed, size),
        np.random.default_rng(seed + 1).standard_normal((4, 300)).astype("f4"),
    )
    bits = to_bfloat16(np.ascontiguousarray(weight.T) if transposed else weight)
    found = fast.matmul(x, Bfloat16Matrix(bits, transposed))
    wide_x, wide = x.astype(np.float64), weight.astype(np.float64)
    allowed = (2.0**-8 + 300 * 2.0**-23) * (np.abs(wide_x) @ np.abs(wide))
    error = np.abs(found - wide_x @ wide)
    assert (error <= allowed).all()
    assert (error / allowed).max() > 1e-3
