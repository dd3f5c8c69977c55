"""Sinusoidal positions: where a token stands, written in waves of many lengths and added to its embedding.

    PE(p, 2j) = sin(p · θ^(−2j/D))          PE(p, 2j+1) = cos(p · θ^(−2j/D))          θ = 10000

It counts as a binary number does: the first wave changes from token to token, each next one more slowly,
and the last takes nearly 2πθ tokens. Nothing is learned, and any position has a vector. A step of n tokens
turns each pair of sine and cosine by the same angle wherever it starts,

    PE(p + n) = R(n) · PE(p)

so that a layer can learn to look n tokens back. Rotary embedding (kernels/rope.py) later took the turning and
left out the adding. Vaswani et al. 2017, arXiv:1706.03762, section 3.5; there the embedding is multiplied by
√D before the addition.
"""

import numpy as np
from numpy.typing import NDArray


def sinusoidal_positions(
    positions: NDArray[np.integer], width: int, theta: float = 10000.0
) -> NDArray[np.float32]:
    """Write positions in waves: (...) → (..., D).

    width  D; an odd one ends in a sine
    theta  θ, the longest wave is nearly 2πθ tokens
    """
    # In float64, rounded once: the angle of position 100 000 has no digit of a radian's fraction to spare.
    frequencies = float(theta) ** (-np.arange(0, width, 2) / width)
    angles = positions[..., None] * frequencies  # (..., D/2)
    vectors = np.empty((*positions.shape, width), dtype=np.float32)
    vectors[..., 0::2] = np.sin(angles)
    vectors[..., 1::2] = np.cos(angles[..., : width // 2])
    return vectors
