"""WKV: the recurrence against the two sums of its definition, in pieces, and where exponents are large."""

import numpy as np
import pytest

from tinystar_np.kernels.wkv import token_shift, wkv, wkv_matrix


def inputs(T: int, size: float = 1.0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(T)
    k, v = random.standard_normal((2, 2, T, 5), dtype=np.float32)
    return k * np.float32(size), v, -np.exp(random.standard_normal(5, dtype=np.float32)), v[0, 0]


def test_the_two_sums_in_float64() -> None:
    k, v, decay, bonus = inputs(12)
    y, _ = wkv(k, v, decay, bonus)
    assert y.dtype == np.float32
    for b, t, c in np.ndindex(2, 12, 5):
        exponents = [(t - 1 - s) * float(decay[c]) + float(k[b, s, c]) for s in range(t)]
        weights = np.exp([*exponents, float(bonus[c]) + float(k[b, t, c])])
        np.testing.assert_allclose(
            y[b, t, c], weights @ v[b, : t + 1, c] / weights.sum(), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_the_matrix(size: float) -> None:
    k, v, decay, bonus = inputs(12, size)
    matrix = wkv_matrix(k, decay, bonus)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.sum(axis=-1), 1, rtol=1e-6)
    y, _ = wkv(k, v, decay, bonus)
    np.testing.assert_allclose(y, np.einsum("bcts,bsc->btc", matrix, v), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_in_pieces(size: float) -> None:
    k, v, decay, bonus = inputs(20, size)
    y, after = wkv(k, v, decay, bonus)
    assert np.isfinite(y).all()
    state, parts = None, []
    for piece in np.split(np.arange(20), [1, 2, 9]):
        part, state = wkv(k[:, piece], v[:, piece], decay, bonus, state)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), y)
    np.testing.assert_array_equal(state, after)


def test_a_token_of_great_weight_is_all_that_is_read() -> None:
    k, v, decay, bonus = inputs(4)
    k[:, 1] = 500  # e^500 is beyond float64, too
    y, _ = wkv(k, v, decay, bonus)
    np.testing.assert_array_equal(y[:, 3], v[:, 1])


def test_shift() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    np.testing.assert_array_equal(token_shift(x, x[:, 2])[:, 0], x[:, 2])
    np.testing.assert_array_equal(token_shift(x)[:, 1:], x[:, :2])
