"""Hyper-connections by loops over single streams, and what doubly stochastic matrices promise."""

import numpy as np
import pytest

from tinystar_np.kernels.hyper_connections import (
    collapsed,
    connected,
    connections,
    doubly_stochastic,
    streams_of,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("N", [1, 2, 3, 4, 7])
def test_definition(N: int) -> None:
    scores, scale, bias = normal(2, 5, 2 * N + N * N), normal(3), normal(2 * N + N * N)
    into, back, mixing = connections(scores, scale, bias, rounds=3, eps=0.01)
    assert streams_of(len(bias)) == N
    for b, t in np.ndindex(2, 5):
        p = scale[0] * scores[b, t, :N] + bias[:N]
        q = scale[1] * scores[b, t, N : 2 * N] + bias[N : 2 * N]
        M = np.exp(scale[2] * scores[b, t, 2 * N :] + bias[2 * N :]).reshape(N, N)
        M = M / M.sum(axis=1, keepdims=True) + 0.01
        for turn in range(5):
            M = M / (M.sum(axis=turn % 2, keepdims=True) + 0.01)
        np.testing.assert_allclose(into[b, t], 1 / (1 + np.exp(-p)) + 0.01, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(back[b, t], 2 / (1 + np.exp(-q)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mixing[b, t], M, rtol=1e-5, atol=1e-6)
    assert into.dtype == back.dtype == mixing.dtype == np.float32


def test_streams_by_loops() -> None:
    x, y, into, back, mixing = (
        normal(2, 5, 3, 4),
        normal(2, 5, 4),
        normal(2, 5, 3),
        normal(3),
        normal(2, 5, 3, 3),
    )
    back = np.broadcast_to(back, (2, 5, 3))
    read, written = collapsed(x, into), connected(x, y, back, mixing)
    for b, t in np.ndindex(2, 5):
        expected = sum(into[b, t, j] * x[b, t, j] for j in range(3))
        np.testing.assert_allclose(read[b, t], expected, rtol=1e-5, atol=1e-5)
        for k in range(3):
            expected = back[b, t, k] * y[b, t] + sum(mixing[b, t, j, k] * x[b, t, j] for j in range(3))
            np.testing.assert_allclose(written[b, t, k], expected, rtol=1e-5, atol=1e-5)
    assert read.dtype == written.dtype == np.float32


def test_rows_and_columns_sum_to_1_and_so_do_those_of_products() -> None:
    matrices = doubly_stochastic(np.exp(normal(60, 4, 4)), rounds=50, eps=0.0)
    product = np.linalg.multi_dot(list(matrices.astype(np.float64)))
    for found in (*matrices, product):
        np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-4)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-4)
    x = normal(4, 30)
    assert np.abs(product.T @ x).max() <= np.abs(x).max() * (1 + 1e-4)
