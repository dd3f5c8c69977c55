"""The exercises of docs/kernels/delta_rule.md, solved."""

import numpy as np

from tinystar_np.kernels.delta_rule import delta_rule


def test_three_corrections_by_hand() -> None:
    keys, values = np.array([[1.0, 0], [0.6, 0.8], [1, 0]]), np.array([10.0, 0, 10])
    one, no_gate = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    expected = [
        [10, 0],
        [6.4, -4.8],  # read 6; −6 times the key is added: 10 − 3.6, 0 − 4.8
        [10, -4.8],  # read 6.4; 3.6 times (1, 0) is added
    ]
    S = None
    for t in range(3):
        k, v = keys[t].reshape(1, 1, 1, 2), values[t].reshape(1, 1, 1, 1)
        _, S = delta_rule(k, k, v, no_gate, one, S)
        np.testing.assert_allclose(S.ravel(), expected[t], atol=1e-12)


def test_keys_that_occur_once() -> None:
    T = 6
    keys = np.linalg.qr(np.random.default_rng(0).standard_normal((T, T)))[0]  # at right angles
    values = np.random.default_rng(1).standard_normal((T, 3))
    k, v, g = keys[None, :, None], values[None, :, None], np.zeros((1, T, 1))
    added = keys.T @ values  # linear attention: the sum of key times value
    # There is nothing to correct: what is read before writing is always 0.
    _, S = delta_rule(k, k, v, g, np.ones((1, T, 1)))
    np.testing.assert_allclose(S[0, 0], added)
    # With ½ half of each difference to 0 is written.
    _, S = delta_rule(k, k, v, g, np.full((1, T, 1), 0.5))
    np.testing.assert_allclose(S[0, 0], added / 2)


def test_what_stood_there_before() -> None:
    text = np.array([0.0, 0, 1, 1, 0, 1, 0, 0])
    T = len(text)
    # Two tokens for each of the text's: one asks (β = 0), one writes (β = 1), under one key.
    key = np.ones((1, 2 * T, 1, 1))
    values = np.repeat(text, 2).reshape(1, 2 * T, 1, 1)
    beta = np.tile([0.0, 1.0], T).reshape(1, 2 * T, 1)
    y, _ = delta_rule(key, key, values, np.zeros((1, 2 * T, 1)), beta)
    before = y[0, ::2, 0, 0]
    np.testing.assert_array_equal(before, [0, *text[:-1]])
    assert np.abs(text - before).sum() == 4
