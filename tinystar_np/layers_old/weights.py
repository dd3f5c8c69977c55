"""Moved to layers/weights.py."""

from tinystar_np.layers.weights import Weights

__all__ = ["Weights"]
