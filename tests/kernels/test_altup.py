"""AltUp by loops over single vectors, and what its parts promise."""

import numpy as np

from tinystar_np.kernels.altup import correct, match_rms, predict


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def test_definition() -> None:
    x, mixing, y, shares = normal(2, 5, 3, 4), normal(2, 5, 3, 3), normal(2, 5, 4), normal(2, 5, 3, seed=1)
    predicted = predict(x, mixing)
    corrected = correct(predicted, y, 1, shares)
    for b, t, j in np.ndindex(2, 5, 3):
        expected = x[b, t, j] + sum(mixing[b, t, j, i] * x[b, t, i] for i in range(3))
        np.testing.assert_allclose(predicted[b, t, j], expected, rtol=1e-5, atol=1e-5)
        moved = y[b, t] - predicted[b, t, 1]
        expected = predicted[b, t, j] + (shares[b, t, j] + 1) * moved
        np.testing.assert_allclose(corrected[b, t, j], expected, rtol=1e-5, atol=1e-5)
    assert predicted.dtype == corrected.dtype == np.float32


def test_a_layer_that_does_nothing_corrects_nothing() -> None:
    predicted = normal(2, 5, 3, 4)
    np.testing.assert_array_equal(correct(predicted, predicted[..., 2, :], 2, normal(2, 5, 3)), predicted)


def test_the_active_vector_becomes_the_layers_result_where_its_share_is_0() -> None:
    predicted, y, shares = normal(2, 5, 3, 4), normal(2, 5, 4), normal(2, 5, 3)
    shares[..., 0] = 0
    np.testing.assert_allclose(correct(predicted, y, 0, shares)[..., 0, :], y, rtol=1e-5, atol=1e-6)


def test_lengths() -> None:
    x, other = normal(3, 8), 7 * normal(3, 8, seed=1)
    found = match_rms(x, other)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), np.linalg.norm(other, axis=-1), rtol=1e-5)
    zeros = match_rms(np.zeros_like(x), other)
    assert (zeros == 0).all()
    assert found.dtype == zeros.dtype == np.float32
