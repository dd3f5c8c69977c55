"""The exercises of docs/kernels/norms.md, solved."""

import numpy as np

from tinystar_np.kernels.norms import layer_norm, rms_norm

X = np.array([1.0, 2, 3, 6], dtype=np.float32)
ONES = np.ones(4, dtype=np.float32)


def test_a_constant_changes_rms_norm_only() -> None:
    np.testing.assert_allclose(
        layer_norm(X + 10, None, None, 1e-5), layer_norm(X, None, None, 1e-5), atol=1e-6
    )
    assert abs(rms_norm(X + 10, ONES, 1e-5) - rms_norm(X, ONES, 1e-5)).max() > 0.5
