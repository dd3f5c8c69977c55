"""Normalisation: every token's vector is brought to one scale, whatever earlier layers added to it.

Layer normalisation centres a vector and scales it to unit variance; then comes a learned gain and bias for
each feature.

    y = (x − mean(x)) / sqrt(var(x) + eps) · gain + bias

Mean and variance are over the features of one token, never over the batch: a token's result does not
depend on its neighbours. Ba, Kiros & Hinton 2016, arXiv:1607.06450.

Root mean square normalisation leaves out the mean: centring turned out not to matter, scaling does. One pass
less over the data and no bias to learn.

    y = x / sqrt(mean(x²) + eps) · gain

Zhang & Sennrich 2019, arXiv:1910.07467. Llama and most decoders after it.

Gated RMS normalisation ends Mamba 2's mixer: each feature is first multiplied by its activated gate, then the
products are normed, in groups of features where the layer is divided so.

    y = rms_norm(x · silu(gate)) · gain

Dao & Gu 2024, arXiv:2405.21060. The other order, the gate after the norm, is an option of Mamba 2 too, and
what Gated DeltaNet does.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import silu


def layer_norm(x: NDArray, gain: NDArray | None, bias: NDArray | None, eps: float) -> NDArray:
    """Bring each vector of the last axis to mean 0 and variance 1, then apply ``gain`` and ``bias``.

        y = (x − mean(x)) / sqrt(var(x) + eps) · gain + bias

    x     (..., D)
    gain  (D,) or None for 1
    bias  (D,) or None for 0
    eps   added to the variance, under the root

    Returns (..., D) in x's type, a new array.

    >>> layer_norm(np.array([1.0, 5.0]), np.array([1.0, 10.0]), np.array([0.0, 5.0]), eps=0.0).tolist()
    [-1.0, 15.0]
    """
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)  # over D, not D − 1: the biased one
    y = centred / np.sqrt(variance + x.dtype.type(eps))
    if gain is not None:
        y = y * gain
    return y if bias is None else y + bias


def rms_norm(x: NDArray, gain: NDArray, eps: float) -> NDArray:
    """Scale each vector of the last axis to unit root mean square, then by ``gain``.

        y = x / sqrt(mean(x²) + eps) · gain

    x     (..., D)
    gain  (D,)
    eps   added to the mean square, under the root

    Returns (..., D) in x's type, a new array.

    >>> rms_norm(np.array([1.0, 7.0]), np.array([1.0, 10.0]), eps=0.0).tolist()  # √((1 + 49) / 2) = 5
    [0.2, 14.0]
    """
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps)) * gain


def gated_rms_norm(
    x: NDArray, gate: NDArray, gain: NDArray, eps: float, groups: int = 1, norm_first: bool = False
) -> NDArray:
    """Multiply by the activated gate, then apply ``rms_norm`` in groups of features.

        y = rms_norm(x · silu(gate)) · gain

    x, gate     (..., D)
    gain        (D,)
    eps         added to the mean square, under the root
    groups      into how many equal parts a vector is divided, each normed by itself; divides D
    norm_first  whether the gate comes after the norm instead

    Returns (..., D) in x's type, a new array.

    >>> x, gate, gain = np.array([1.0, 1.0]), np.array([100.0, 700.0]), np.ones(2)  # silu(100) = 100
    >>> gated_rms_norm(x, gate, gain, eps=0.0).round(6).tolist()
    [0.2, 1.4]
    >>> gated_rms_norm(x, gate, gain, eps=0.0, norm_first=True).round(6).tolist()
    [100.0, 700.0]
    """

    def normed(y: NDArray) -> NDArray:
        parts = y.reshape(*y.shape[:-1], groups, y.shape[-1] // groups)
        return rms_norm(parts, gain.reshape(groups, -1), eps).reshape(y.shape)

    return normed(x) * silu(gate) if norm_first else normed(x * silu(gate))
