"""Normalisation layers: a norm's kernel with its gain, bias and epsilon."""

from numpy.typing import NDArray

from tinystar_np.kernels.norms import layer_norm
from tinystar_np.layers.weights import Weights


class LayerNorm:
    """Layer normalisation.

    w    ``gain`` (D,) and ``bias`` (D,)
    eps  added to the variance
    """

    def __init__(self, w: Weights, *, eps: float):
        self.gain: NDArray = w["gain"]
        self.bias: NDArray = w["bias"]
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D)."""
        return layer_norm(x, self.gain, self.bias, self.eps)
