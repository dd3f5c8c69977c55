"""Normalisation layers: a norm's kernel with its gain, bias and epsilon."""

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.layers.weights import Weights


class LayerNorm:
    """Layer normalisation.

    w    ``gain`` (D,) and, in most models, ``bias`` (D,); in OLMo neither
    eps  added to the variance
    """

    def __init__(self, w: Weights, *, eps: float):
        self.gain: NDArray | None = w.get("gain")
        self.bias: NDArray | None = w.get("bias")
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D)."""
        return fast.layer_norm(x, self.gain, self.bias, self.eps)


class RMSNorm:
    """Root mean square normalisation.

    w       ``gain`` (D,)
    eps     added to the mean square
    offset  what the stored gain lacks: 1 where gain − 1 was learned (Gemma), so that weight decay, which
            draws weights to 0, draws the gain to 1. It is added here, once, and the kernel never hears of it.
    """

    def __init__(self, w: Weights, *, eps: float, offset: float = 0.0):
        gain: NDArray = w["gain"]
        self.gain = gain + gain.dtype.type(offset) if offset else gain
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D)."""
        return fast.rms_norm(x, self.gain, self.eps)
