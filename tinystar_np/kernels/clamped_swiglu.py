"""Clamped SwiGLU: a gated activation whose two factors are kept within limits.

    g = min(gate, limit)
    u = min(max(up, −limit), limit)
    y = g · sigmoid(α g) · (u + 1)

SwiGLU multiplies two linear maps, so a few features grow with the square of the input, which costs all others
their precision where numbers have few bits. Limits bound both factors. A gate far below 0 needs
none: its activation is nearly 0. With u + 1 an ``up`` of 0 passes the activated gate on unchanged; α = 1.702
makes g · sigmoid(α g) an approximation of GELU. OpenAI 2025 (gpt-oss), arXiv:2508.10925.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import sigmoid


def clamped_swiglu(gate: NDArray, up: NDArray, alpha: float, limit: float) -> NDArray:
    """Multiply ``up`` by its activated gate, both clamped: g · sigmoid(α g) · (u + 1).

    gate, up  (..., F)
    alpha     α, how steep the gate's sigmoid is
    limit     largest gate, and largest absolute value of ``up``

    Returns (..., F) in gate's type, a new array.

    >>> gate, up = np.array([100.0, 100.0]), np.array([0.0, 100.0])
    >>> clamped_swiglu(gate, up, alpha=1.702, limit=7.0).round(2).tolist()  # 7 · (0 + 1) and 7 · (7 + 1)
    [7.0, 56.0]
    """
    bound = gate.dtype.type(limit)
    g = np.minimum(gate, bound)
    u = np.clip(up, -bound, bound)
    return g * sigmoid(gate.dtype.type(alpha) * g) * (u + gate.dtype.type(1))
