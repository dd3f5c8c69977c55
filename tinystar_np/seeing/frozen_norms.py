"""Norms as they acted on one vector: with its scale held fixed, a norm is a linear map.

    RMSNorm     y = s · gain ∘ x                      s = 1 / sqrt(mean(x²) + eps)
    LayerNorm   y = s · gain ∘ (x − mean(x)) + bias   s = 1 / sqrt(var(x) + eps)

What is normed is a sum of many parts. They all had a share in s; once s is the number that this sum gave,
each part goes through the norm by itself, and the results add up to what the norm made of the sum.
Subtracting the mean is linear already: each part is centred by its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError
from tinystar_np.layers.basic import LayerNorm, Norm, RMSNorm, no_norm


@dataclass(frozen=True)
class FrozenNorm:
    """The linear map that a norm was for one vector, in float64.

    factors  (D,) what each number is multiplied by: the gain times the scale
    centres  whether the mean is subtracted before
    bias     (D,) what is added after; None for nothing
    """

    factors: NDArray[np.float64]
    centres: bool
    bias: NDArray[np.float64] | None

    def after(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply the map: (D,) → (D,)."""
        y = (x - x.mean() if self.centres else x) * self.factors
        return y if self.bias is None else y + self.bias

    def before(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn a direction after the norm into the one before it whose products with vectors are the same.

        (..., D) → (..., D): y·direction = x·before(direction) + bias·direction.
        """
        pulled: NDArray[np.float64] = direction * self.factors
        return pulled - pulled.mean(axis=-1, keepdims=True) if self.centres else pulled


def freeze(norm: Norm, x: NDArray[np.float64]) -> FrozenNorm:
    """Return the linear map that ``norm`` is for the vector x (D,).

    Raises InputError for a norm of a class whose formula is not known here.
    """
    if norm is no_norm:
        return FrozenNorm(np.ones_like(x), centres=False, bias=None)
    match norm:
        case RMSNorm():
            scale = 1 / np.sqrt(np.mean(x * x) + norm.eps)
            return FrozenNorm(norm.gain * scale, centres=False, bias=None)
        case LayerNorm():
            scale = 1 / np.sqrt(np.var(x) + norm.eps)
            gain = np.ones_like(x) if norm.gain is None else norm.gain
            bias = None if norm.bias is None else norm.bias.astype(np.float64)
            return FrozenNorm(gain * scale, centres=True, bias=bias)
    raise InputError(
        f"{type(norm).__name__} is a norm of an unknown kind, so its result cannot be divided into parts."
    )
