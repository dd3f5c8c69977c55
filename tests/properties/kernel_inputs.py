"""Random numbers for the kernels that read a text from left to right, two rows of a given length."""

import numpy as np

from tinystar_np.kernels.activations import sigmoid, softplus
from tinystar_np.kernels.delta_rule import unit_vectors


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def ssm_inputs(seed: int, length: int) -> list[np.ndarray]:
    """x, Δ, A, B, C, D of kernels/ssm.py: 4 heads of width 5 in 2 groups, N = 6."""
    steps = softplus(normal(seed + 1, 2, length, 4))
    B, C = normal(seed + 2, 2, 2, length, 2, 6)
    return [normal(seed, 2, length, 4, 5), steps, -np.exp(normal(seed + 3, 4)), B, C, normal(seed + 4, 4)]


def selective_inputs(seed: int, length: int) -> list[np.ndarray]:
    """x, Δ, A, B, C, D of kernels/selective_scan.py: 5 channels, N = 3."""
    steps = softplus(normal(seed + 1, 2, length, 5))
    B, C = normal(seed + 2, 2, 2, length, 3)
    return [normal(seed, 2, length, 5), steps, -np.exp(normal(seed + 3, 3, 5)), B, C, normal(seed + 4, 5)]


def delta_inputs(seed: int, length: int) -> list[np.ndarray]:
    """q, k, v, g, β of kernels/delta_rule.py: 4 heads of values 3 wide in 2 groups of keys 6 wide."""
    q, k = (unit_vectors(part) for part in normal(seed, 2, 2, length, 2, 6))
    g, share = -softplus(normal(seed + 2, 2, length, 4)), sigmoid(normal(seed + 3, 2, length, 4))
    return [q, k, normal(seed + 1, 2, length, 4, 3), g, share]


def convolution_inputs(seed: int, length: int) -> list[np.ndarray]:
    return [normal(seed, 2, length, 900), normal(seed + 1, 4, 900)]
