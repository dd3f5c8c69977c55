"""Embedding layer: a table of vectors, for tokens or for learned positions."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.weights import Weights


class Embedding:
    """A vector for each id.

    w  ``weight`` (V, D), an array or a packed matrix
    """

    def __init__(self, w: Weights):
        self.weight: Matrix = w["weight"]

    def __call__(self, ids: NDArray[np.integer]) -> NDArray:
        """Look up (...) ids: (..., D)."""
        return fast.embedding(ids, self.weight)

    def tied_head(self) -> Weights:
        """Return the weights of an output layer that shares this table: (D, V), a view."""
        return Weights({"weight": self.weight.T})
