"""Linear layer: a weight matrix and, in many models, a bias."""

from numpy.typing import NDArray

from tinystar_np.kernels.linear import linear
from tinystar_np.layers.weights import Weights


class Linear:
    """y = x W + b.

    w  ``weight`` (in, out) and optionally ``bias`` (out,). GPT-2's files store weights this way round; most
       others store (out, in), and their recipes pass the transpose, which is a view.
    """

    def __init__(self, w: Weights):
        self.weight: NDArray = w["weight"]
        self.bias = w.get("bias")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., in) to (..., out)."""
        return linear(x, self.weight, self.bias)
