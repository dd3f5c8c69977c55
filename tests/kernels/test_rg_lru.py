"""RG-LRU against a loop over single numbers, written from the formulas of the paper."""

import math

import numpy as np
import pytest

from tinystar_np.kernels.rg_lru import block_diagonal, log_decay, rg_lru


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(
    x: np.ndarray,
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    parameter: np.ndarray,
    state: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Everything from x on, in single numbers of float64; no token is a text's first."""
    B, T, C = x.shape
    P = weights[0].shape[1]
    y, h = np.zeros((B, T, C)), state.astype(np.float64)
    for b, t, c in np.ndindex(B, T, C):
        head, own = divmod(c, P)
        r, i = (
            sigmoid(
                sum(float(x[b, t, head * P + p]) * float(w[head, p, own]) for p in range(P))
                + float(bias[head, own])
            )
            for w, bias in zip(weights, biases, strict=True)
        )
        a = math.exp(-8 * r * math.log1p(math.exp(float(parameter[c]))))
        h[b, c] = a * h[b, c] + math.sqrt(1 - a * a) * i * float(x[b, t, c])
        y[b, t, c] = h[b, c]
    return y, h


def gates(x: np.ndarray, seed: int) -> np.ndarray:
    C = x.shape[-1]
    weight, bias = normal(3, C // 3, C // 3, seed=seed), normal(3, C // 3, seed=seed)
    return 1 / (1 + np.exp(-block_diagonal(x, weight, bias)))


@pytest.mark.parametrize("length", [1, 2, 30])
def test_definition(length: int) -> None:
    x, parameter, state = normal(2, length, 6), normal(6, seed=1) - 1, normal(2, 6, seed=2)
    weights, biases = ([normal(3, 2, 2, seed=s) for s in (3, 4)], [normal(3, 2, seed=s) for s in (5, 6)])
    r, i = (1 / (1 + np.exp(-block_diagonal(x, w, bias))) for w, bias in zip(weights, biases, strict=True))
    kept = state.copy()
    found = rg_lru(x, i, log_decay(r, parameter), np.zeros((2, length), bool), state)
    for one, other in zip(found, by_hand(x, weights, biases, parameter, state), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * np.abs(other).max())
    np.testing.assert_array_equal(state, kept)


def test_pieces_continue_each_other() -> None:
    x = normal(2, 20, 6)
    i, log_a = gates(x, 1), log_decay(gates(x, 2), normal(6))
    begins = np.arange(20) == 0
    begins = np.stack([begins, begins])
    whole, last = rg_lru(x, i, log_a, begins)
    state, parts = None, []
    for piece in (slice(0, 1), slice(1, 8), slice(8, 20)):
        y, state = rg_lru(x[:, piece], i[:, piece], log_a[:, piece], begins[:, piece], state)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-6)
    np.testing.assert_allclose(state, last, rtol=1e-6)


def test_the_state_stays_as_large_as_its_inputs() -> None:
    """Whatever the decay, of independent inputs of variance 1."""
    x = normal(400, 200, 3)
    log_a = np.broadcast_to(np.float32([-1e-2, -0.3, -3.0]), x.shape)
    begins = np.zeros(x.shape[:2], bool)
    begins[:, 0] = True
    y, _ = rg_lru(x, np.ones_like(x), log_a, begins)
    np.testing.assert_allclose(y.var(axis=(0, 1)), 1, atol=0.1)
    assert (y[:, 0] == x[:, 0]).all()  # the first enters whole


def test_a_closed_gate_keeps_the_state() -> None:
    x, state = normal(1, 5, 4), normal(1, 4, seed=1)
    closed = log_decay(np.zeros_like(x), normal(4))
    y, h = rg_lru(x, np.ones_like(x), closed, np.zeros((1, 5), bool), state)
    np.testing.assert_array_equal(h, state)
    np.testing.assert_array_equal(y, np.repeat(state[:, None], 5, axis=1))
