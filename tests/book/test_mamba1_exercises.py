"""The exercises of docs/kernels/mamba1.md, solved."""

import numpy as np

from tinystar_np.kernels.selective_scan import selective_scan


def test_three_tokens_by_hand() -> None:
    x = np.array([4.0, 0, 8])[None, :, None]  # (batch, T, F)
    A, one = np.array([[-np.log(2)]]), np.ones((1, 3, 1))
    for steps, expected in (
        ([1.0, 1, 1], [4, 2, 9]),  # 4, 4/2, 2/2 + 8
        ([1.0, 0, 2], [4, 4, 17]),  # 4, unchanged, 4/2/2 + 2 · 8
    ):
        y, _ = selective_scan(x, np.array(steps)[None, :, None], A, one, one, np.zeros(1))
        np.testing.assert_allclose(y[0, :, 0], expected)


def test_a_very_long_step_and_none() -> None:
    rng = np.random.default_rng(0)
    x, B = rng.standard_normal((1, 11, 1)), rng.standard_normal((1, 11, 4))
    A, dt = -np.ones((4, 1)), np.full((1, 11, 1), 0.1)
    _, before = selective_scan(x[:, :10], dt[:, :10], A, B[:, :10], B[:, :10], np.zeros(1))
    # All that came before has decayed by e⁻¹⁰⁰. The token is written a hundred times, not once:
    # the decay is exact for any step, but the input Δ x B is meant for short ones.
    dt[:, 10] = 100
    _, after = selective_scan(x, dt, A, B, B, np.zeros(1))
    np.testing.assert_allclose(after[0, :, 0], 100 * x[0, 10, 0] * B[0, 10])
    # With a step of 0 the token leaves no trace.
    dt[:, 10] = 0
    _, after = selective_scan(x, dt, A, B, B, np.zeros(1))
    np.testing.assert_array_equal(after, before)


def test_a_memory_read_backwards() -> None:
    x = np.array([7.0, 8, 9, 0, 0, 0])[None, :, None]
    dt = np.array([1.0, 1, 1, 0, 0, 0])[None, :, None]  # the last three are not written
    A = np.full((3, 1), -1e-9)  # hardly any decay
    place = np.eye(3)
    B = np.concatenate((place, 0 * place))[None]  # token t is written into place t
    C = np.concatenate((0 * place, place[::-1]))[None]  # and the places are read from the last on
    y, _ = selective_scan(x, dt, A, B, C, np.zeros(1))
    np.testing.assert_allclose(y[0, :, 0], [0, 0, 0, 9, 8, 7], atol=1e-6)
