"""The scans are linear in what they read and in the state they start from, given the tokens' parameters.

    scan(a x + b x', a h + b h') = a scan(x, h) + b scan(x', h')

By powers of two it holds to the last bit: doubling a binary number changes its exponent alone. A sum of two
inputs is rounded where the sum of two outputs is not, so there it holds within rounding.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import FIXED

from tinystar_np import fast
from tinystar_np.kernels.activations import sigmoid, softplus
from tinystar_np.kernels.convolution import causal_convolution
from tinystar_np.kernels.delta_rule import chunked_delta_rule, delta_rule, unit_vectors
from tinystar_np.kernels.selective_scan import selective_scan
from tinystar_np.kernels.ssm import chunked_ssm_scan, ssm_scan

Scan = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From what is read and the state before it to what is given and the state behind it."""


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def ssm(
    form: Callable[..., Any], rng: np.random.Generator, T: int
) -> tuple[Scan, tuple[int, ...], tuple[int, ...]]:
    dt, A, D = softplus(normal(rng, 2, T, 4)), -np.exp(normal(rng, 4)), normal(rng, 4)
    B, C = normal(rng, 2, 2, T, 2, 6)
    return lambda x, h: form(x, dt, A, B, C, D, h), (2, T, 4, 5), (2, 4, 5, 6)


def selective(form: Callable[..., Any], rng: np.random.Generator, T: int) -> Any:
    dt, A, D = softplus(normal(rng, 2, T, 5)), -np.exp(normal(rng, 3, 5)), normal(rng, 5)
    B, C = normal(rng, 2, 2, T, 3)
    return lambda x, h: form(x, dt, A, B, C, D, h), (2, T, 5), (2, 3, 5)


def delta(form: Callable[..., Any], rng: np.random.Generator, T: int) -> Any:
    """Linear in the values: what is corrected is a value less what the state, itself linear, says."""
    q, k = (unit_vectors(part) for part in normal(rng, 2, 2, T, 2, 6))
    g, beta = -softplus(normal(rng, 2, T, 4)), sigmoid(normal(rng, 2, T, 4))
    return lambda v, S: form(q, k, v, g, beta, S), (2, T, 4, 3), (2, 4, 6, 3)


def convolution(form: Callable[..., Any], rng: np.random.Generator, T: int) -> Any:
    weight = normal(rng, 4, 300)
    return lambda x, state: form(x, weight, None, state), (2, T, 300), (2, 3, 300)


def quick_selective_scan(*inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, state = fast.selective_scan(*inputs)
    return y, np.asarray(state)


SCANS = {
    "ssm_scan": (ssm, ssm_scan),
    "chunked_ssm_scan": (ssm, chunked_ssm_scan),
    "quick selective_scan": (selective, quick_selective_scan),
    "selective_scan": (selective, selective_scan),
    "delta_rule": (delta, delta_rule),
    "chunked_delta_rule": (delta, chunked_delta_rule),
    "causal_convolution": (convolution, causal_convolution),
    "quick causal_convolution": (convolution, fast.causal_convolution),
}
numbers = st.floats(-8, 8, width=32)


@FIXED
@given(
    name=st.sampled_from(sorted(SCANS)),
    seed=st.integers(0, 2**32 - 1),
    length=st.sampled_from([1, 2, 63, 64, 65, 140]),
    a=numbers,
    b=numbers,
    power=st.integers(-20, 20),
)
def test_linear(name: str, seed: int, length: int, a: float, b: float, power: int) -> None:
    make, form = SCANS[name]
    rng = np.random.default_rng(seed)
    scan, inputs, states = make(form, rng, length)
    (x, other), (h, other_h) = normal(rng, 2, *inputs), normal(rng, 2, *states)

    exactly = np.float32(2.0**power)
    for found, expected in zip(scan(exactly * x, exactly * h), scan(x, h), strict=True):
        np.testing.assert_array_equal(found, exactly * expected)

    a, b = np.float32(a), np.float32(b)
    sums = scan(a * x + b * other, a * h + b * other_h)
    for found, first, second in zip(sums, scan(x, h), scan(other, other_h), strict=True):
        size = np.abs(a * first).max() + np.abs(b * second).max()
        np.testing.assert_allclose(found, a * first + b * second, rtol=0, atol=2e-5 * max(size, 1e-30))


@pytest.mark.parametrize("name", SCANS)
def test_what_is_read_and_what_was_before_add_up(name: str) -> None:
    """The state's share and the text's share, each alone, are the whole."""
    make, form = SCANS[name]
    rng = np.random.default_rng(0)
    scan, inputs, states = make(form, rng, 100)
    x, h = normal(rng, *inputs), normal(rng, *states)
    whole, of_text, of_state = scan(x, h), scan(x, 0 * h), scan(0 * x, h)
    for found, first, second in zip(whole, of_text, of_state, strict=True):
        assert np.abs(first).max() > 0.1
        np.testing.assert_allclose(found, first + second, rtol=0, atol=1e-5 * np.abs(found).max())
    assert np.abs(of_state[0]).max() > 0.1
