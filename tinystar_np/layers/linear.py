"""Linear layer: a weight matrix and, in many models, a bias."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.layers.matrices import NarrowMatrix
from tinystar_np.layers.products import product
from tinystar_np.layers.weights import Weights


class Linear:
    """y = x W + b.

    w  ``weight`` (in, out), an array or a NarrowMatrix, and optionally ``bias`` (out,)
    """

    def __init__(self, w: Weights):
        self.weight: NDArray | NarrowMatrix = w["weight"]
        self.bias: NDArray | None = w.get("bias")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., in) to (..., out), a new array."""
        rows = x.reshape(-1, x.shape[-1])
        weight = self.weight
        y = product(rows, weight) if isinstance(weight, np.ndarray) else weight.product(rows)
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], -1)
