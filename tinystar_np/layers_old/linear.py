"""Linear layer: a weight matrix and, in many models, a bias."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from tinystar_np.layers_old.matrices import NarrowMatrix
from tinystar_np.layers_old.products import product
from tinystar_np.layers_old.weights import Weights


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


class Joined:
    """Linear layers that multiply the same vectors, as one: a single product.

    layers  the single ones; where somebody gives one of them another matrix or bias, they are asked again
    matrix  (in, all their outputs)
    bias    (all their outputs,), or None
    """

    def __init__(self, layers: Sequence[Linear], matrix: NDArray, bias: NDArray | None):
        self.layers = layers
        self.held = [(layer.weight, layer.bias) for layer in layers]
        self.linear = Linear(Weights({"weight": matrix} | ({} if bias is None else {"bias": bias})))
        widths = [layer.weight.shape[1] for layer in layers]
        self.parts = [slice(*ends) for ends in pairwise(accumulate(widths, initial=0))]

    def __call__(self, x: NDArray) -> list[NDArray]:
        """Map (..., in) to each one's (..., out), new arrays or parts of one."""
        for layer, (weight, bias) in zip(self.layers, self.held, strict=True):
            if layer.weight is not weight or layer.bias is not bias:
                return [layer(x) for layer in self.layers]
        y = self.linear(x)
        return [y[..., part] for part in self.parts]


def joined(layers: Sequence[Linear]) -> Joined | None:
    """Make one layer of several whose matrices lie side by side in memory (weights/side_by_side.py).

    layers  that multiply the same vectors

    Returns None where they lie apart, which is so in most files.
    """
    matrices = [layer.weight for layer in layers if isinstance(layer.weight, np.ndarray)]
    rows = matrices[0].base if len(matrices) == len(layers) else None  # (all outputs, in), where there is one
    if not isinstance(rows, np.ndarray) or rows.ndim != 2:
        return None
    widths = [matrix.shape[1] for matrix in matrices]
    places = [rows[end - width : end].T for width, end in zip(widths, accumulate(widths), strict=True)]
    if sum(widths) != len(rows) or not all(map(_same_place, matrices, places)):
        return None
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if biases and len(biases) < len(layers):
        return None
    return Joined(layers, rows.T, np.concatenate(biases) if biases else None)


def _same_place(one: NDArray, other: NDArray) -> bool:
    return one.__array_interface__ == other.__array_interface__
