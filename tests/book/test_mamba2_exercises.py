"""The exercises of docs/kernels/mamba2.md, solved."""

import numpy as np

from tinystar_np.kernels.ssm import ssm_matrix, ssm_scan


def test_four_tokens_by_hand() -> None:
    dt, one = np.ones((1, 4, 1)), np.ones((1, 4, 1, 1))
    A, D = np.array([-np.log(2)]), np.zeros(1)
    M = ssm_matrix(dt, A, one, one, D)[0, 0]
    expected = [[1, 0, 0, 0], [1 / 2, 1, 0, 0], [1 / 4, 1 / 2, 1, 0], [1 / 8, 1 / 4, 1 / 2, 1]]
    np.testing.assert_allclose(M, expected)
    np.testing.assert_allclose(M @ np.ones(4), [1, 1.5, 1.75, 1.875])  # on the way to 2
    # Token 2 writes nothing (its column), and nothing decays at it (its row is the one above).
    dt[0, 2] = 0
    M = ssm_matrix(dt, A, one, one, D)[0, 0]
    expected = [[1, 0, 0, 0], [1 / 2, 1, 0, 0], [1 / 2, 1, 0, 0], [1 / 4, 1 / 2, 0, 1]]
    np.testing.assert_allclose(M, expected)


def test_no_decay_and_nothing_but_decay() -> None:
    rng = np.random.default_rng(0)
    x, dt = rng.standard_normal((1, 6, 1, 1)), np.ones((1, 6, 1))
    B, C = rng.standard_normal((2, 1, 6, 1, 3))
    # Without decay the state is the sum of all that was written.
    y, h = ssm_scan(x, dt, np.zeros(1), B, C, np.zeros(1))
    written = np.cumsum(x[0, :, 0] * B[0, :, 0], axis=0)  # (T, N)
    np.testing.assert_allclose(y[0, :, 0, 0], (C[0, :, 0] * written).sum(axis=1))
    np.testing.assert_allclose(h[0, 0, 0], written[-1])
    # With decay alone each token reads what it wrote itself.
    y, _ = ssm_scan(x, dt, np.array([-1000.0]), B, C, np.zeros(1))
    np.testing.assert_allclose(y[0, :, 0, 0], (C * B).sum(axis=-1)[0, :, 0] * x[0, :, 0, 0])


def test_linear_attention_with_the_scan() -> None:
    rng = np.random.default_rng(0)
    T, K = 7, 4
    q, k, v = (rng.standard_normal((1, T, 1, K)) for _ in range(3))  # (batch, T, H or G, K)
    dt, no_decay, D = np.ones((1, T, 1)), np.zeros(1), np.zeros(1)
    y, state = ssm_scan(v, dt, no_decay, k, q, D)  # x are the values, B the keys, C the queries
    expected = np.tril(q[0, :, 0] @ k[0, :, 0].T) @ v[0, :, 0]
    np.testing.assert_allclose(y[0, :, 0], expected)

    new_q, new_k, new_v = (rng.standard_normal((1, 1, 1, K)) for _ in range(3))
    y, _ = ssm_scan(new_v, dt[:, :1], no_decay, new_k, new_q, D, state)
    keys, values = (np.concatenate(pair, axis=1)[0, :, 0] for pair in ((k, new_k), (v, new_v)))
    np.testing.assert_allclose(y.ravel(), (keys @ new_q.ravel()) @ values)
