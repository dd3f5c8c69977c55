"""Embedding layer: a table of vectors, for tokens or for learned positions."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.embedding import embedding
from tinystar_np.layers_old.matrices import NarrowMatrix
from tinystar_np.layers_old.weights import Weights


class Embedding:
    """A vector for each id.

    w  ``weight`` (V, D), an array or a NarrowMatrix
    """

    def __init__(self, w: Weights):
        self.weight: NDArray | NarrowMatrix = w["weight"]

    def __call__(self, ids: NDArray[np.integer]) -> NDArray:
        """Look up (...) ids: (..., D)."""
        if isinstance(self.weight, np.ndarray):
            return embedding(ids, self.weight)
        return self.weight.rows(ids)

    def tied_head(self) -> Weights:
        """Return the weights of an output layer that shares this table: (D, V), a view."""
        return Weights({"weight": self.weight.T})
