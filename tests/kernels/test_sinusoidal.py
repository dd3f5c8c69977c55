"""Sinusoidal positions against the formula, number by number, and against transformers."""

import math

import numpy as np
import pytest
import torch
from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings
from transformers.models.xglm.modeling_xglm import XGLMSinusoidalPositionalEmbedding

from tinystar_np.kernels.sinusoidal import sinusoidal_halves, sinusoidal_positions


@pytest.mark.parametrize("width", [2, 7, 12])
@pytest.mark.parametrize("theta", [10000.0, 50.0])
def test_definition(width: int, theta: float) -> None:
    positions = np.array([[0, 1, 17], [999, 123_456, 3]])
    found = sinusoidal_positions(positions, width, theta)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, width)
    for place, p in np.ndenumerate(positions):
        for i in range(width):
            angle = p * theta ** (-(i - i % 2) / width)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert found[place][i] == pytest.approx(expected, abs=1e-7)


def test_as_transformers() -> None:
    table = torch.zeros(600, 48)
    create_sinusoidal_embeddings(n_pos=600, dim=48, out=table)
    np.testing.assert_allclose(sinusoidal_positions(np.arange(600), 48), table.numpy(), atol=1e-7)


@pytest.mark.parametrize("width", [4, 7, 12])
@pytest.mark.parametrize("theta", [10000.0, 50.0])
def test_definition_of_halves(width: int, theta: float) -> None:
    positions = np.array([[0, 1, 17], [999, 123_456, 3]])
    found = sinusoidal_halves(positions, width, theta)
    assert found.dtype == np.float32
    half = width // 2
    for place, p in np.ndenumerate(positions):
        for j in range(half):
            angle = p * theta ** (-j / (half - 1))
            assert found[place][j] == pytest.approx(math.sin(angle), abs=1e-7)
            assert found[place][half + j] == pytest.approx(math.cos(angle), abs=1e-7)
        assert (found[place][2 * half :] == 0).all()


@pytest.mark.parametrize("width", [48, 9])
def test_halves_as_transformers(width: int) -> None:
    """In float32, where an angle of 600 is off by 3e-5."""
    table = XGLMSinusoidalPositionalEmbedding.get_embedding(600, width).numpy()
    np.testing.assert_allclose(sinusoidal_halves(np.arange(600), width), table, atol=1e-4)


def test_a_step_turns_each_pair_by_the_same_angle() -> None:
    before = sinusoidal_positions(np.array([3, 70, 4000]), 16)
    after = sinusoidal_positions(np.array([8, 75, 4005]), 16)
    z, w = (x[:, 1::2] + 1j * x[:, 0::2] for x in (before, after))
    np.testing.assert_allclose(w / z, np.broadcast_to((w / z)[:1], (3, 8)), atol=1e-6)
    assert np.abs(w - z).max() > 0.5
