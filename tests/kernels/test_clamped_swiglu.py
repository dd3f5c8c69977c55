"""The clamped SwiGLU against torch, on both sides of each limit."""

import numpy as np
import pytest
import torch

from tinystar_np.kernels.clamped_swiglu import clamped_swiglu


@pytest.mark.parametrize(("alpha", "limit"), [(1.702, 7.0), (1.0, 0.5), (3.0, 100.0)])
def test_against_torch(alpha: float, limit: float) -> None:
    rng = np.random.default_rng(0)
    gate, up = (rng.standard_normal((40, 9), dtype=np.float32) * 10 for _ in range(2))
    before = gate.copy(), up.copy()
    found = clamped_swiglu(gate, up, alpha, limit)
    g, u = (torch.from_numpy(x).double() for x in (gate, up))
    g, u = g.clamp(max=limit), u.clamp(-limit, limit)
    expected = (u + 1) * g * torch.sigmoid(alpha * g)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal((gate, up), before)


def test_nothing_runs_away() -> None:
    huge = np.float32([-1e30, 1e30])
    found = clamped_swiglu(*np.meshgrid(huge, huge), 1.702, 7.0)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 7 * 8
