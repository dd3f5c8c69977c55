"""Layer norms of queries or keys in which each head has a gain of its own: Command R+ and StableLM 2 12B."""

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights


class LayerNormOfHeads(Module):
    """Layer normalisation of each head's vector by itself, without bias.

    w    ``gain`` (H, K)
    eps  added to the variance
    """

    def __init__(self, w: Weights, *, eps: float):
        gain: NDArray = w["gain"]
        self.gain = gain[:, None]  # (H, 1, K): the same for all tokens
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (B, H, T, K): a new array."""
        return fast.layer_norm(x, self.gain, None, self.eps)
