"""The exercises of docs/kernels/alibi.md, solved."""

import numpy as np

from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.kernels.attention import attention_probabilities
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.sinusoidal import sinusoidal_positions


def test_the_slopes_of_four_heads() -> None:
    # m_h = 2^(−8h/4): 2^−2, 2^−4, 2^−6, 2^−8. A weight is halved where m · distance = ln 2 = 0.693.
    slopes = alibi_slopes(4)
    assert slopes.tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    halved = np.log(2) / slopes
    assert halved.round(1).tolist() == [2.8, 11.1, 44.4, 177.4]
    # The second head, keys at distance 0 and 11: just above a half.
    weights = attention_probabilities(alibi_bias(slopes, np.array([0, 11]))[:, None], None)[1, 0]
    assert 0.5 < weights[0] / weights[1] < 0.51


def test_later_positions_change_the_bias_and_not_the_weights() -> None:
    slopes, scores = alibi_slopes(8), np.random.default_rng(0).normal(size=(8, 6, 6))
    t = np.arange(6)
    here, later = alibi_bias(slopes, t), alibi_bias(slopes, t + 1000)
    # The bias of each key rises by 1000 m. It is the same number for all keys, so the weights stay.
    np.testing.assert_allclose(later - here, np.repeat(1000 * slopes[:, None], 6, axis=1), rtol=1e-4)
    np.testing.assert_allclose(
        attention_probabilities(scores + here[:, None], Mask(t, t)),
        attention_probabilities(scores + later[:, None], Mask(t + 1000, t + 1000)),
        atol=1e-4,
    )


def test_a_matrix_that_moves_sinusoidal_positions() -> None:
    D, n = 16, 5
    angles = n * 10000.0 ** (-np.arange(0, D, 2) / D)
    move = np.zeros((D, D))
    for j, angle in enumerate(angles):
        # sin(a + b) = sin a cos b + cos a sin b, and cos(a + b) = cos a cos b − sin a sin b
        move[2 * j, 2 * j : 2 * j + 2] = np.cos(angle), np.sin(angle)
        move[2 * j + 1, 2 * j : 2 * j + 2] = -np.sin(angle), np.cos(angle)
    p = np.array([0, 1, 17, 400])
    # One matrix for all positions: a layer can learn it, and so learn to look n tokens back.
    np.testing.assert_allclose(sinusoidal_positions(p, D) @ move.T, sinusoidal_positions(p + n, D), atol=1e-6)
