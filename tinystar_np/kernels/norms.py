"""Normalisation: keep every token's vector at one scale, whatever the layers before added to it.

Layer normalisation centres a vector and scales it to unit variance; a gain and a bias per feature let the
model undo that where it wants to.

    y = (x − mean(x)) / sqrt(var(x) + eps) · gain + bias

Mean and variance are over the features of one token, never over the batch: a token's result does not
depend on its neighbours. Ba, Kiros & Hinton 2016, arXiv:1607.06450.
"""

import numpy as np
from numpy.typing import NDArray


def layer_norm(x: NDArray, gain: NDArray, bias: NDArray, eps: float) -> NDArray:
    """Bring each vector of the last axis to mean 0 and variance 1, then apply ``gain`` and ``bias``.

    x     (..., D)
    gain  (D,)
    bias  (D,)
    eps   added to the variance, under the root

    Returns (..., D) in x's type, a new array.
    """
    width = x.dtype.type(x.shape[-1])
    y = x - x.sum(axis=-1, keepdims=True) / width
    variance = np.vecdot(y, y)[..., None] / width  # over D, not D − 1: the biased one
    # In place from here: y is ours, and each temporary of a long prompt is a trip to memory.
    y *= 1 / np.sqrt(variance + x.dtype.type(eps))  # one division per row; products are faster
    y *= gain
    y += bias
    return y
