"""Activations and norms against float64 definitions and torch's own operators."""

import math

import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from tinystar_np.kernels.activations import ACTIVATIONS, erf
from tinystar_np.kernels.norms import gated_rms_norm, layer_norm, rms_norm

X = np.concatenate([np.linspace(-30, 30, 20_001), [0.0, -0.0, 1e-30, 80.0, -80.0, 1e4, -1e4]]).astype(
    np.float32
)


def test_erf() -> None:
    exact = np.array([math.erf(x) for x in X])
    found = erf(X)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 4e-7
    near_zero = (np.abs(X) < 0.1) & (X != 0)
    assert np.abs(found / np.where(exact == 0, 1, exact) - 1)[near_zero].max() < 4e-7


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation(name: str) -> None:
    expected = ACT2FN[name](torch.from_numpy(X).double()).numpy()
    found = ACTIVATIONS[name](X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_layer_norm(eps: float) -> None:
    rng = np.random.default_rng(0)
    x, gain, bias = (rng.standard_normal(s, dtype=np.float32) for s in ((2, 5, 33), (33,), (33,)))
    original = x.copy()
    arguments = [torch.from_numpy(a).double() for a in (gain, bias)]
    expected = torch.nn.functional.layer_norm(
        torch.from_numpy(x).double(), (33,), *arguments, eps=eps
    ).numpy()
    found = layer_norm(x, gain, bias, eps)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x, original)
    without = torch.nn.functional.layer_norm(torch.from_numpy(x).double(), (33,), arguments[0], eps=eps)
    np.testing.assert_allclose(layer_norm(x, gain, None, eps), without.numpy(), rtol=1e-5, atol=1e-6)
    bare = torch.nn.functional.layer_norm(torch.from_numpy(x).double(), (33,), eps=eps)
    np.testing.assert_allclose(layer_norm(x, None, None, eps), bare.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_rms_norm(eps: float) -> None:
    rng = np.random.default_rng(0)
    x, gain = (rng.standard_normal(s, dtype=np.float32) for s in ((2, 5, 33), (33,)))
    original = x.copy()
    wide, weight = torch.from_numpy(x).double(), torch.from_numpy(gain).double()
    found = rms_norm(x, gain, eps)
    assert found.dtype == np.float32
    expected = torch.nn.functional.rms_norm(wide, (33,), weight, eps=eps).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x, original)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_gated_rms_norm(groups: int) -> None:
    rng = np.random.default_rng(0)
    x, gate, gain = (rng.standard_normal(s, dtype=np.float32) for s in ((2, 5, 24), (2, 5, 24), (24,)))
    original = x.copy(), gate.copy()
    passed = torch.from_numpy(x).double() * torch.nn.functional.silu(torch.from_numpy(gate).double())
    parts = torch.nn.functional.rms_norm(passed.reshape(2, 5, groups, -1), (24 // groups,), eps=0.01)
    expected = parts.reshape(2, 5, 24).numpy() * gain
    found = gated_rms_norm(x, gate, gain, 0.01, groups)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal((x, gate), original)
