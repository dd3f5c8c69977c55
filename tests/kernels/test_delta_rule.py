"""The gated delta rule: the recurrence against its meaning, the chunks against the recurrence."""

from typing import Any

import numpy as np
import pytest

from tinystar_np import fast
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.kernels.delta_rule import chunked_delta_rule, delta_rule, unit_vectors

Inputs = tuple[np.ndarray, ...]


def inputs(T: int, G: int = 2, H: int = 4, K: int = 8, K_v: int = 6, fading: float = 1.0) -> Inputs:
    """Return q, k, v, g, beta for two rows."""
    random = np.random.default_rng(T)
    q, k = (unit_vectors(random.standard_normal((2, T, G, K), dtype=np.float32)) for _ in "qk")
    v = random.standard_normal((2, T, H, K_v), dtype=np.float32)
    g = -fading * random.random((2, T, H), dtype=np.float32)
    return q, k, v, g, random.random((2, T, H), dtype=np.float32)


def test_the_formula_in_float64() -> None:
    """One head at a time, the lines of the module's docstring as matrices: (I − β k kᵀ) fades and forgets."""
    q, k, v, g, beta = inputs(20)
    y, state = delta_rule(q, k, v, g, beta)
    assert y.dtype == state.dtype == np.float32
    for b, h in np.ndindex(2, 4):
        S = np.zeros((8, 6))
        for t in range(20):
            key, value = k[b, t, h // 2].astype(float), v[b, t, h].astype(float)
            forget = np.eye(8) - beta[b, t, h] * np.outer(key, key)
            S = np.exp(float(g[b, t, h])) * forget @ S + beta[b, t, h] * np.outer(key, value)
            np.testing.assert_allclose(y[b, t, h], q[b, t, h // 2] @ S, atol=2e-6)
        np.testing.assert_allclose(state[b, h], S, atol=2e-6)


def test_what_is_stored_whole_is_read_back() -> None:
    _, k, v, g, beta = inputs(10, G=4)
    y, _ = delta_rule(k, k, v, g, np.ones_like(beta))
    np.testing.assert_allclose(y, v, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("T", [1, 7, 8, 9, 40, 150])
@pytest.mark.parametrize("fading", [0.0, 1.0, 50.0])  # at 50 a chunk's sums reach below what exp can show
def test_chunks(T: int, groups: int, fading: float) -> None:
    given = inputs(T, G=groups, fading=fading)
    state = np.random.default_rng(1).standard_normal((2, 4, 8, 6), dtype=np.float32)
    for before in (None, state):
        copy = None if before is None else before.copy()
        y, after = delta_rule(*given, before)
        for size in (8, 64):
            found, found_after = chunked_delta_rule(*given, before, chunk_size=size)
            assert found.dtype == found_after.dtype == np.float32
            np.testing.assert_allclose(found, y, atol=1e-5)
            np.testing.assert_allclose(found_after, after, atol=1e-5)
        np.testing.assert_array_equal(before, copy)  # what came before is not written to


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("fading", [0.0, 1.0, 50.0])
def test_steps(groups: int, fading: float) -> None:
    """Token by token; the state before each stays as it was, so that an interrupted call loses nothing."""
    q, k, v, g, beta = inputs(2 * MOST + 3, G=groups, fading=fading)
    given = np.random.default_rng(1).standard_normal((2, 4, 8, 6), dtype=np.float32)
    expected_y, expected_state = delta_rule(q, k, v, g, beta, given)
    states = np.repeat(given, 2, axis=1)
    states[:, 1::2] = np.nan
    state: Any = states[:, ::2]  # in pieces of other memory
    for t in range(2 * MOST + 3):
        at = np.s_[:, t : t + 1]
        before = np.array(state)
        y, after = fast.delta_rule(q[at], k[at], v[at], g[at], beta[at], state)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected_y[at], atol=1e-5)
        np.testing.assert_array_equal(np.asarray(state), before)
        state = after
    np.testing.assert_allclose(np.asarray(state), expected_state, atol=1e-5)
    np.testing.assert_array_equal(states[:, ::2], given)


@pytest.mark.parametrize("cut", [1, 63, 64, 65, 99])
def test_in_pieces(cut: int) -> None:
    given = inputs(100)
    y, after = chunked_delta_rule(*given)
    first, state = chunked_delta_rule(*(x[:, :cut] for x in given))
    second, state = chunked_delta_rule(*(x[:, cut:] for x in given), state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), y, atol=1e-5)
    np.testing.assert_allclose(state, after, atol=1e-5)


def test_unit_vectors() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    found = unit_vectors(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
