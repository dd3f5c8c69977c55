"""Normalisation: keep every token's vector at one scale, whatever the layers before added to it.

Layer normalisation centres a vector and scales it to unit variance; a gain and a bias per feature let the
model undo that where it wants to.

    y = (x − mean(x)) / sqrt(var(x) + eps) · gain + bias

Mean and variance are over the features of one token, never over the batch: a token's result does not
depend on its neighbours. Ba, Kiros & Hinton 2016, arXiv:1607.06450.

Root mean square normalisation leaves out the mean: centring turned out not to matter, scaling does. One pass
less over the data and no bias to learn.

    y = x / sqrt(mean(x²) + eps) · gain

Zhang & Sennrich 2019, arXiv:1910.07467. Llama and most decoders after it.

Gated, it is what Mamba 2 ends with: a second vector decides first how much of each feature passes, and what
passes is normed, in groups of features where the layer is divided so.

    y = rms_norm(x · silu(gate)) · gain

Dao & Gu 2024, arXiv:2405.21060. The other order, the gate behind the norm, is Mamba 2's too, as an option.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import silu


def layer_norm(x: NDArray, gain: NDArray | None, bias: NDArray | None, eps: float) -> NDArray:
    """Bring each vector of the last axis to mean 0 and variance 1, then apply ``gain`` and ``bias``.

    x     (..., D)
    gain  (D,) or None
    bias  (D,) or None
    eps   added to the variance, under the root

    Returns (..., D) in x's type, a new array.
    """
    width = x.dtype.type(x.shape[-1])
    # What x.sum ends in, without the Python before it: that is a sixth of the time of one token's norm.
    y = x - np.add.reduce(x, axis=-1, keepdims=True) / width
    variance = np.vecdot(y, y)[..., None] / width  # over D, not D − 1: the biased one
    # In place from here: y is ours, and each temporary of a long prompt is a trip to memory.
    y *= 1 / np.sqrt(variance + x.dtype.type(eps))  # one division per row; products are faster
    if gain is not None:
        y *= gain
    if bias is not None:
        y += bias
    return y


def rms_norm(x: NDArray, gain: NDArray, eps: float) -> NDArray:
    """Scale each vector of the last axis to unit root mean square, then by ``gain``.

    x     (..., D)
    gain  (D,)
    eps   added to the mean square, under the root

    Returns (..., D) in x's type, a new array.
    """
    mean_square = np.vecdot(x, x)[..., None] / x.dtype.type(x.shape[-1])
    y = x * (1 / np.sqrt(mean_square + x.dtype.type(eps)))  # one division per row; products are faster
    y *= gain
    return y


def gated_rms_norm(
    x: NDArray, gate: NDArray, gain: NDArray, eps: float, groups: int = 1, norm_first: bool = False
) -> NDArray:
    """Let ``gate`` pass some of each feature, then norm: first the gate, then the norm.

    x, gate     (..., D)
    gain        (D,)
    eps         added to the mean square, under the root
    groups      into how many equal parts a vector is divided, each normed by itself; divides D
    norm_first  whether the gate comes behind the norm instead

    Returns (..., D) in x's type, a new array.
    """
    passing = silu(gate)
    y = x if norm_first else passing * x
    parts = y.reshape(*y.shape[:-1], groups, y.shape[-1] // groups)
    y = rms_norm(parts, gain.reshape(groups, -1), eps).reshape(y.shape)
    if norm_first:
        y *= passing
    return y
