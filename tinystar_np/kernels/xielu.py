"""xIELU: an activation whose two sides are learned, from the slopes that they should have.

    f(x) = α_p x² + β x                     x > 0
    f(x) = α_n (eˣ − 1 − x) + β x           x ≤ 0

Begin with the slope. ReLU²'s is 2x for x > 0 and 0 elsewhere: it grows with x, and where x is negative a
feature learns nothing. GELU's settles at 1. Here the slope on the right grows like ReLU²'s, 2 α_p x + β, and
on the left it is ELU's shape, α_n (eˣ − 1) + β, which falls from β towards β − α_n, below 0. The function is
the integral of that, hence its name (expanded integral of the exponential linear unit). Both sides meet in
f(0) = 0 with slope β = 0.5.

α_p and α_n are two numbers of each layer, learned with its weights. They are kept where they cannot lose
their meaning: a file has a_p and a_n, any numbers, and

    α_p = log(1 + exp(a_p))                 above 0
    α_n = β + log(1 + exp(a_n))             above β, so that the slope on the left does become negative

For x a little below 0, eˣ − 1 and x are nearly the same number, and their difference loses its digits. The
definition therefore takes e to the power of min(x, ε) with ε = −10⁻⁶, and f(0) is −10⁻⁶ α_n instead of 0.

Huang and Schlag 2024, arXiv:2411.13010. Apertus.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import softplus


def xielu(x: NDArray, a_p: NDArray, a_n: NDArray, beta: NDArray, epsilon: NDArray) -> NDArray:
    """Apply xIELU to each number.

    x         (...)
    a_p, a_n  as a file has them, one number each
    beta      β, the slope at 0
    epsilon   ε, the largest power of e

    Returns (...) in x's type, a new array.

    >>> zero, half, epsilon = np.array([0.0]), np.array(0.5), np.array(-1e-6)
    >>> x = np.array([2.0, -1.0])  # softplus(0) = 0.693: 0.693 · 4 + 1, and 1.193 · (e⁻¹ − 1 + 1) − 0.5
    >>> xielu(x, zero, zero, half, epsilon).round(3).tolist()
    [3.773, -0.061]
    """
    alpha_p, alpha_n = softplus(a_p), beta + softplus(a_n)
    right = alpha_p * x * x
    left = alpha_n * (np.expm1(np.minimum(x, epsilon)) - x)
    y: NDArray = np.where(x > 0, right, left) + beta * x
    return y
