"""The delta rule with a decay for every channel: its forms, and what it is where decays are alike."""

import numpy as np
import pytest

from tinystar_np.kernels.channel_delta_rule import channel_delta_rule, chunked_channel_delta_rule
from tinystar_np.kernels.delta_rule import delta_rule, unit_vectors

B, H, K, K_V = 2, 3, 6, 4


def inputs(T: int, strength: float = 1.0) -> tuple[np.ndarray, ...]:
    """q, k, v, g, beta."""
    rng = np.random.default_rng(T)
    q, k = (unit_vectors(rng.standard_normal((B, T, H, K), dtype=np.float32)) for _ in range(2))
    v = rng.standard_normal((B, T, H, K_V), dtype=np.float32)
    g = -strength * np.exp(rng.standard_normal((B, T, H, K), dtype=np.float32))
    return q, k, v, g, rng.random((B, T, H), dtype=np.float32)


@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 50])
@pytest.mark.parametrize("strength", [0.01, 1.0, 300.0])
def test_chunks(T: int, strength: float) -> None:
    """Decays that leave nothing within a token overflow in no form."""
    given = inputs(T, strength)
    state = np.random.default_rng(0).standard_normal((B, H, K, K_V), dtype=np.float32)
    kept = state.copy()
    for before in (None, state):
        y, S = channel_delta_rule(*given, before)
        found, after = chunked_channel_delta_rule(*given, before)
        assert found.dtype == after.dtype == np.float32
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after, S, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(state, kept)


def test_decays_that_are_alike_are_the_gated_delta_rule() -> None:
    q, k, v, g, beta = inputs(40)
    g = np.broadcast_to(g[..., :1], g.shape)
    y, S = channel_delta_rule(q, k, v, g, beta)
    expected, state = delta_rule(q, k, v, g[..., 0], beta)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(S, state, rtol=1e-5, atol=1e-6)


def test_a_text_in_two_pieces() -> None:
    given = inputs(30)
    whole, S = channel_delta_rule(*given)
    first, state = channel_delta_rule(*(x[:, :11] for x in given))
    second, state = channel_delta_rule(*(x[:, 11:] for x in given), state)
    np.testing.assert_allclose(np.concatenate((first, second), axis=1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state, S, rtol=1e-5, atol=1e-6)
