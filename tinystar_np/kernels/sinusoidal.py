"""Sinusoidal positions: a token's position as sines and cosines of many wavelengths, added to its embedding.

    PE(p, 2j) = sin(p · θ^(−2j/D))          PE(p, 2j+1) = cos(p · θ^(−2j/D))          θ = 10000

The waves are like the digits of a binary number: the first changes from token to token, each next one more
slowly, and the last takes nearly 2πθ tokens. Nothing is learned, and any position has a vector. A step of n
tokens rotates each pair of sine and cosine by the same angle wherever it starts,

    PE(p + n) = R(n) · PE(p)

so that a layer can learn to attend n tokens back. Rotary embedding (kernels/rope.py) later kept the rotation
and left out the addition. Vaswani et al. 2017, arXiv:1706.03762, section 3.5; there the embedding is
multiplied by √D before the addition.

The code that came with the paper, and most that was copied from it, has all sines before all cosines, and
spaces the waves so that the last takes exactly 2πθ tokens:

    PE(p, j) = sin(p · θ^(−j/(h−1)))        PE(p, h + j) = cos(p · θ^(−j/(h−1)))      h = D/2

Neither matters to what can be learned; to weights that were learned with one form, the other is noise.
tensor2tensor's layers/common_attention.py, 2017; fairseq and XGLM after it.
"""

import numpy as np
from numpy.typing import NDArray


def sinusoidal_positions(
    positions: NDArray[np.integer], width: int, theta: float = 10000.0
) -> NDArray[np.float32]:
    """Return the vectors of positions: (...) → (..., D).

    width  D; an odd one ends in a sine
    theta  θ; the longest wave is nearly 2πθ tokens

    >>> print(sinusoidal_positions(np.array([0, 1]), 4).round(3))  # angles 0 and 0, then 1 and 0.01
    [[0.    1.    0.    1.   ]
     [0.841 0.54  0.01  1.   ]]
    """
    # In float64, rounded once: in float32 the angle of position 100 000 has an error of 0.004 radians.
    frequencies = float(theta) ** (-np.arange(0, width, 2) / width)
    angles = positions[..., None] * frequencies  # (..., D/2)
    vectors = np.empty((*positions.shape, width), dtype=np.float32)
    vectors[..., 0::2] = np.sin(angles)
    vectors[..., 1::2] = np.cos(angles[..., : width // 2])
    return vectors


def sinusoidal_halves(
    positions: NDArray[np.integer], width: int, theta: float = 10000.0
) -> NDArray[np.float32]:
    """Return the vectors of positions with sines in the first half, cosines in the second: (...) → (..., D).

    width  D, at least 4; an odd one ends in a 0
    theta  θ; the longest wave is 2πθ tokens

    >>> print(sinusoidal_halves(np.array([0, 1]), 4, theta=100.0).round(3))  # angles 0 and 0, then 1 and 0.01
    [[0.    0.    1.    1.   ]
     [0.841 0.01  0.54  1.   ]]
    """
    half = width // 2
    frequencies = float(theta) ** (-np.arange(half) / (half - 1))
    angles = positions[..., None] * frequencies  # (..., h), in float64 as above
    vectors = np.zeros((*positions.shape, width), dtype=np.float32)
    vectors[..., :half] = np.sin(angles)
    vectors[..., half : 2 * half] = np.cos(angles)
    return vectors
