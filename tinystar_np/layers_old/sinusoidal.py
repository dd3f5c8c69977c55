"""Sinusoidal positions as a layer: called as a learned table is, without weights and without end."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.sinusoidal import sinusoidal_positions


class Sinusoidal:
    """A vector for each position, to be added to the embedding of its token.

    width  D
    theta  θ, the longest wave is nearly 2πθ tokens
    """

    def __init__(self, width: int, *, theta: float = 10000.0):
        self.width = width
        self.theta = theta

    def __call__(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        """Write (...) positions in waves: (..., D)."""
        return sinusoidal_positions(positions, self.width, self.theta)
