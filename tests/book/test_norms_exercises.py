"""The exercises of docs/kernels/norms.md, solved."""

import numpy as np

from tinystar_np.kernels.norms import layer_norm, rms_norm

X = np.array([1.0, 2, 3, 6], dtype=np.float32)
ONES = np.ones(4, dtype=np.float32)


def test_a_constant_changes_rms_norm_only() -> None:
    # The mean becomes 13, and minus the mean the vector is (−2, −1, 0, 3) as before: layer_norm is the same.
    before, after = layer_norm(X, None, None, 1e-5), layer_norm(X + 10, None, None, 1e-5)
    np.testing.assert_allclose(after, before, atol=1e-6)
    # The mean square becomes (121 + 144 + 169 + 256) / 4 = 172.5, its root 13.1: nearly (1, 1, 1, 1).
    expected = np.array([11, 12, 13, 16]) / np.sqrt(172.5)
    np.testing.assert_allclose(rms_norm(X + 10, ONES, 1e-5), expected, atol=1e-6)


def test_large_and_small_vectors() -> None:
    # The mean square of (1, 2, 3, 6) is 12.5; times 1000 it is 12.5e6, and eps is nothing beside it.
    large = rms_norm(1000 * X, ONES, 1e-5)
    np.testing.assert_allclose(large, X / np.sqrt(12.5), rtol=1e-6)
    # Divided by 1000 it is 1.25e-5, with eps 2.25e-5: the result is √(1.25 / 2.25) = 0.745 times as large.
    small = rms_norm(X / 1000, ONES, 1e-5)
    np.testing.assert_allclose(small / large, np.sqrt(1.25 / 2.25), rtol=1e-4)


def test_a_matrix_that_centres() -> None:
    rng = np.random.default_rng(0)
    h, W, gain = rng.normal(size=(5, 6)), rng.normal(size=(6, 8)), rng.normal(size=8)
    # The mean of y over its features is h times the mean of each row of W. Rows with the mean 0 give vectors
    # with the mean 0, and of those mean square and variance are the same.
    centred = W - W.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        rms_norm(h @ centred, gain, 1e-5), layer_norm(h @ W, gain, None, 1e-5), atol=1e-10
    )
