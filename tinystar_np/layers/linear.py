"""Linear layer: a weight matrix and, in many models, a bias."""

from collections.abc import Sequence

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.weights import Weights


class Linear:
    """y = x W + b.

    w  ``weight`` (in, out), an array or a packed matrix, and optionally ``bias`` (out,)
    """

    def __init__(self, w: Weights):
        self.weight: Matrix = w["weight"]
        self.bias: NDArray | None = w.get("bias")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., in) to (..., out), a new array."""
        y = fast.matmul(x, self.weight)
        if self.bias is not None:
            y += self.bias
        return y


def linear_each(x: NDArray, layers: Sequence[Linear]) -> list[NDArray]:
    """Map the same vectors by several layers: (..., in) to each one's (..., out)."""
    results = fast.matmul_each(x, [layer.weight for layer in layers])
    for y, layer in zip(results, layers, strict=True):
        if layer.bias is not None:
            y += layer.bias
    return results
