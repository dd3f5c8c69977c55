"""Normalisation layers: a norm's kernel with its gain, bias and epsilon."""

from numpy.typing import NDArray

from tinystar_np.kernels.norms import layer_norm, rms_norm
from tinystar_np.layers.weights import Weights


class LayerNorm:
    """Layer normalisation.

    w    ``gain`` (D,) and, in most models, ``bias`` (D,)
    eps  added to the variance
    """

    def __init__(self, w: Weights, *, eps: float):
        self.gain: NDArray = w["gain"]
        self.bias: NDArray | None = w.get("bias")
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D)."""
        return layer_norm(x, self.gain, self.bias, self.eps)


class RMSNorm:
    """Root mean square normalisation.

    w    ``gain`` (D,)
    eps  added to the mean square
    """

    def __init__(self, w: Weights, *, eps: float):
        self.gain: NDArray = w["gain"]
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D)."""
        return rms_norm(x, self.gain, self.eps)
