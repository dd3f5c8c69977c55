"""Activations: elementwise nonlinear functions between two linear maps, without which they would be one.

Each is elementwise, (...) → (...), and keeps its argument's type. ``ACTIVATIONS`` maps the names that Hugging
Face configs use to them; several names are one function.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Activation = Callable[[NDArray], NDArray]


def activate(x: NDArray, activation: Activation) -> NDArray:
    """Apply an activation: (...) → (...).

    >>> activate(np.array([-2.0, 0.0, 3.0]), relu).tolist()
    [0.0, 0.0, 3.0]
    """
    return activation(x)


def gated_activation(gate: NDArray, up: NDArray, activation: Activation) -> NDArray:
    """Multiply each feature by its activated gate: activation(gate) ∘ up, the core of GLU, SwiGLU and GeGLU.

    gate, up  (..., F)

    Returns (..., F).

    >>> gated_activation(np.array([-1.0, 2.0]), np.array([5.0, 5.0]), relu).tolist()
    [0.0, 10.0]
    """
    return activation(gate) * up


def relu(x: NDArray) -> NDArray:
    """Rectified linear unit: max(x, 0).

    >>> relu(np.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 3.0]
    """
    return np.maximum(x, x.dtype.type(0))


def relu_squared(x: NDArray) -> NDArray:
    """Squared ReLU: max(x, 0)². So et al. 2021 (Primer), arXiv:2109.08668.

    >>> relu_squared(np.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 9.0]
    """
    return np.square(relu(x))


def relu6(x: NDArray) -> NDArray:
    """ReLU cut off at 6.

    >>> relu6(np.array([-2.0, 3.0, 8.0])).tolist()
    [0.0, 3.0, 6.0]
    """
    return np.clip(x, x.dtype.type(0), x.dtype.type(6))


def leaky_relu(x: NDArray) -> NDArray:
    """ReLU that lets 1 % of the negative side through.

    >>> leaky_relu(np.array([-100.0, 3.0])).tolist()
    [-1.0, 3.0]
    """
    return np.where(x > 0, x, x.dtype.type(0.01) * x)


def sigmoid(x: NDArray) -> NDArray:
    """Logistic function 1 / (1 + exp(−x)), by the tanh identity, which never overflows.

    >>> sigmoid(np.log([1 / 3, 1.0, 3.0])).round(6).tolist()  # at log(a) it is a / (a + 1)
    [0.25, 0.5, 0.75]
    """
    half = x.dtype.type(0.5)
    return half * np.tanh(half * x) + half


def silu(x: NDArray) -> NDArray:
    """SiLU, also called swish: x · sigmoid(x). Elfwing et al. 2017, arXiv:1702.03118.

    >>> silu(np.array([-5.0, -1.0, 0.0, 1.0, 5.0])).round(2).tolist()
    [-0.03, -0.27, 0.0, 0.73, 4.97]
    """
    return x * sigmoid(x)


def softplus(x: NDArray) -> NDArray:
    """Smooth ReLU: log(1 + exp(x)), without overflow.

    >>> softplus(np.array([-100.0, 0.0, 100.0])).round(3).tolist()  # in the middle log(2)
    [0.0, 0.693, 100.0]
    """
    return np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-np.abs(x)))


def mish(x: NDArray) -> NDArray:
    """x · tanh(softplus(x)). Misra 2019, arXiv:1908.08681.

    >>> x = np.log([2.0])  # softplus(x) = log(3), and tanh(log(3)) = (9 − 1) / (9 + 1)
    >>> (mish(x) / x).round(6).tolist()
    [0.8]
    """
    return x * np.tanh(softplus(x))


def sqrt_softplus(x: NDArray) -> NDArray:
    """Square root of softplus.

    >>> sqrt_softplus(np.array([100.0, 400.0])).tolist()
    [10.0, 20.0]
    """
    return np.sqrt(softplus(x))


def hard_swish(x: NDArray) -> NDArray:
    """x · relu6(x + 3) / 6, a swish of straight lines. Howard et al. 2019, arXiv:1905.02244.

    >>> hard_swish(np.array([-1.5, 0.0, 3.0, 9.0])).tolist()
    [-0.375, 0.0, 3.0, 9.0]
    """
    return x * relu6(x + x.dtype.type(3)) / x.dtype.type(6)


def erf(x: NDArray) -> NDArray:
    """Error function 2/√π ∫₀ˣ exp(−t²) dt, which NumPy does not have.

    x · P(x²)/Q(x²) with P and Q of degree 5, fitted for the smallest maximal error on |x| ≤ 3.95, beyond
    which erf is ±1 to float32's last digit. The error is at most 4e-7.

    >>> erf(np.array([1, 2, 3]) / np.sqrt(2)).round(3).tolist()  # normal numbers within 1, 2, 3 deviations
    [0.683, 0.954, 0.997]
    """
    c = np.clip(x, x.dtype.type(-3.95), x.dtype.type(3.95))
    u = c * c
    return np.clip(c * _polynomial(_ERF_P, u) / _polynomial(_ERF_Q, u), x.dtype.type(-1), x.dtype.type(1))


_ERF_P = (
    1.1283790061967658,
    0.19403640485562224,
    0.05320715703854952,
    0.0039173501343507545,
    0.0002876016426243803,
    2.0117398906824966e-06,
)
_ERF_Q = (
    1.0,
    0.5052917738099219,
    0.11559105093426872,
    0.015270765074782157,
    0.001198209309347618,
    3.783973785025365e-05,
)


def _polynomial(coefficients: tuple[float, ...], u: NDArray) -> NDArray:
    """Evaluate c₀ + c₁u + c₂u² + … from the inside out (Horner)."""
    y = np.full_like(u, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y *= u
        y += u.dtype.type(c)
    return y


def gelu(x: NDArray) -> NDArray:
    """Gaussian error linear unit, exact: x · Φ(x), Φ the normal distribution function.

    Hendrycks & Gimpel 2016, arXiv:1606.08415. BERT, Falcon.

    >>> gelu(np.array([-2.0, 1.0, 2.0])).round(4).tolist()  # Φ(1) = 0.8413
    [-0.0455, 0.8413, 1.9545]
    """
    half = x.dtype.type(0.5)
    return x * (half + half * erf(x * x.dtype.type(math.sqrt(0.5))))


def gelu_tanh(x: NDArray) -> NDArray:
    """GELU by the tanh approximation of the same paper: GPT-2's activation ("gelu_new").

    ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))

    >>> gelu_tanh(np.array([-2.0, 1.0, 2.0])).round(4).tolist()  # ``gelu``: −0.0455, 0.8413, 1.9545
    [-0.0454, 0.8412, 1.9546]
    """
    half, one = x.dtype.type(0.5), x.dtype.type(1)
    inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * (x * x * x))
    return half * x * (one + np.tanh(inner))


def gelu_clipped(x: NDArray) -> NDArray:
    """Exact GELU kept between −10 and 10, for quantised models. arXiv:2004.09602.

    >>> gelu_clipped(np.array([1.0, 20.0])).round(4).tolist()
    [0.8413, 10.0]
    """
    return np.clip(gelu(x), x.dtype.type(-10), x.dtype.type(10))


def quick_gelu(x: NDArray) -> NDArray:
    """x · sigmoid(1.702 x), the roughest approximation of GELU. CLIP.

    >>> quick_gelu(np.array([-2.0, 1.0, 2.0])).round(4).tolist()  # ``gelu``: −0.0455, 0.8413, 1.9545
    [-0.0643, 0.8458, 1.9357]
    """
    return x * sigmoid(x.dtype.type(1.702) * x)


def laplace(x: NDArray) -> NDArray:
    """Normal distribution function with mean √½ and standard deviation √(1/4π). arXiv:2209.10655 (MEGA).

    >>> laplace(np.array([0.707107, 0.707107 + 0.282095])).round(3).tolist()  # the mean, one deviation above
    [0.5, 0.841]
    """
    half = x.dtype.type(0.5)
    return half + half * erf((x - x.dtype.type(0.707107)) / x.dtype.type(0.282095 * math.sqrt(2)))


def identity(x: NDArray) -> NDArray:
    """No activation at all ("linear").

    >>> identity(np.array([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    return x


ACTIVATIONS: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_10": gelu_clipped,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "hardswish": hard_swish,
    "laplace": laplace,
    "leaky_relu": leaky_relu,
    "linear": identity,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": relu_squared,
    "relu6": relu6,
    "sigmoid": sigmoid,
    "silu": silu,
    "sqrtsoftplus": sqrt_softplus,
    "swish": silu,
    "tanh": np.tanh,
}
