"""Lightning attention: the recurrence against its meaning, blocks and matrix against the recurrence."""

import numpy as np
import pytest

from tinystar_np.kernels.alibi import alibi_slopes
from tinystar_np.kernels.lightning_attention import (
    blockwise_lightning_attention,
    lightning_attention,
    lightning_matrix,
    lightning_slopes,
)
from tinystar_np.kernels.ssm import ssm_scan

H, K, K_V = 3, 8, 6
SLOPES = np.array([0.0, 0.5, 30.0], dtype=np.float32)  # nothing fades; some; nearly all within a token


def inputs(T: int) -> tuple[np.ndarray, ...]:
    """Return q, k, v of two rows, and a state."""
    random = np.random.default_rng(T)
    q, k, v = (random.standard_normal((2, T, H, width), dtype=np.float32) for width in (K, K, K_V))
    return q, k, v, random.standard_normal((2, H, K, K_V), dtype=np.float32)


def test_the_sum_in_float64() -> None:
    """Σ_{s ≤ t} λ^(t−s) (q_t · k_s) v_s, head by head."""
    q, k, v, _ = inputs(20)
    y, state = lightning_attention(q, k, v, SLOPES)
    assert y.dtype == state.dtype == np.float32
    for b, h in np.ndindex(2, H):
        queries, keys, values = (x[b, :, h].astype(float) for x in (q, k, v))
        for t in range(20):
            fades = np.exp(-float(SLOPES[h]) * (t - np.arange(t + 1)))
            expected = (fades * (keys[: t + 1] @ queries[t])) @ values[: t + 1]
            np.testing.assert_allclose(y[b, t, h], expected, atol=2e-5)


@pytest.mark.parametrize("T", [1, 7, 8, 9, 40, 150])
def test_blocks(T: int) -> None:
    q, k, v, given = inputs(T)
    for before in (None, given):
        copy = None if before is None else before.copy()
        y, after = lightning_attention(q, k, v, SLOPES, before)
        for size in (1, 8, 64):
            found, found_after = blockwise_lightning_attention(q, k, v, SLOPES, before, block_size=size)
            assert found.dtype == found_after.dtype == np.float32
            np.testing.assert_allclose(found, y, atol=1e-4)
            np.testing.assert_allclose(found_after, after, atol=1e-4)
        np.testing.assert_array_equal(before, copy)  # what came before is not written to


def test_the_matrix() -> None:
    q, k, v, _ = inputs(40)
    matrix = lightning_matrix(q, k, SLOPES)
    assert matrix.dtype == np.float32
    assert not np.triu(matrix, 1).any()
    y, _ = lightning_attention(q, k, v, SLOPES)
    np.testing.assert_allclose((matrix @ v.swapaxes(1, 2)).swapaxes(1, 2), y, atol=1e-4)


def test_it_is_mamba_2_with_a_step_of_1() -> None:
    q, k, v, _ = inputs(30)
    y, state = lightning_attention(q, k, v, SLOPES)
    one, none = np.ones((2, 30, H), dtype=np.float32), np.zeros(H, dtype=np.float32)
    found, h = ssm_scan(v, one, -SLOPES, B=k, C=q, D=none)
    np.testing.assert_allclose(found, y, atol=1e-4)
    np.testing.assert_allclose(h.swapaxes(-1, -2), state, atol=1e-4)


def test_slopes_are_those_of_alibi_and_shrink_with_the_layer() -> None:
    np.testing.assert_allclose(lightning_slopes(64, 0, 80), alibi_slopes(64), rtol=2e-5)
    last = lightning_slopes(64, 79, 80)
    assert (last > 0).all()
    assert (last < 3e-5 * alibi_slopes(64)).all()
    assert lightning_slopes(5, 0, 1).dtype == np.float32
