"""Statistical top-k keeps about the share that it says, of normal numbers."""

from statistics import NormalDist

import numpy as np
import pytest

from tinystar_np.kernels.gaussian_top_k import gaussian_top_k


@pytest.mark.parametrize("sparsity", [0.05, 0.5, 0.95])
def test_the_share_of_zeros(sparsity: float) -> None:
    x = np.random.default_rng(0).normal(3, 2, (20, 10_000)).astype(np.float32)
    y = gaussian_top_k(x, NormalDist().inv_cdf(sparsity))
    assert y.dtype == np.float32
    np.testing.assert_allclose((y == 0).mean(axis=-1), sparsity, atol=0.01)
    kept = y > 0
    lost = np.where(kept, x - y, np.nan)  # the cutoff, the same for all of a vector
    np.testing.assert_allclose(np.nanmax(lost, axis=-1), np.nanmin(lost, axis=-1), atol=1e-5)
    assert (np.where(kept, np.inf, x).min(axis=-1) <= np.nanmin(lost, axis=-1)).all()


def test_by_hand() -> None:
    x = np.float32([[0, 2, 4, 6]])  # mean 3, standard deviation √5
    cutoff = 3 + 1.6448536 * 5**0.5
    np.testing.assert_allclose(gaussian_top_k(x, 1.6448536), [[0, 0, 0, max(6 - cutoff, 0)]], atol=1e-6)
    np.testing.assert_allclose(gaussian_top_k(x, 0.0), [[0, 0, 1, 3]], atol=1e-6)
