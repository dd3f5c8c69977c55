"""Causal depthwise convolution: every channel becomes a weighted sum of its own last W values.

    y_t = bias + Σ_j weight_j · x_{t − W + 1 + j}        j = 0 … W − 1

Depthwise: channels do not mix, so a layer learns W numbers per channel. Causal: token t depends on tokens
t − W + 1 to t. With W = 4 it mixes each token with the three before it; Mamba puts it before the recurrence,
which is good at remembering far back and bad at telling nearby tokens apart. Gu & Dao 2023, arXiv:2312.00752,
section 3.4.

Between two calls the last W − 1 inputs are all that must be kept. Before the text begins they are zeros.
"""

import numpy as np
from numpy.typing import NDArray


def causal_convolution(
    x: NDArray, weight: NDArray, bias: NDArray | None = None, state: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Convolve each channel with its own W weights.

    x       (B, T, C)
    weight  (W, C), the last for the token itself
    bias    (C,) or None
    state   (B, W − 1, C), the inputs before x, oldest first; None for zeros

    Returns y (B, T, C) and the state after x (B, W − 1, C), both new arrays.

    >>> x, weight = np.array([[[1.0], [2.0], [3.0]]]), np.array([[10.0], [1.0]])  # y_t = 10 x_{t−1} + x_t
    >>> y, state = causal_convolution(x, weight)
    >>> y.ravel().tolist(), state.ravel().tolist()
    ([1.0, 12.0, 23.0], [3.0])
    """
    B, T, C = x.shape
    W = len(weight)
    if state is None:
        state = np.zeros((B, W - 1, C), dtype=x.dtype)
    padded = np.concatenate([state, x], axis=1)  # (B, W − 1 + T, C)
    y = weight[W - 1] * padded[:, W - 1 :]
    for j in range(W - 1):
        y += weight[j] * padded[:, j : j + T]
    if bias is not None:
        y += bias
    return y, padded[:, T:].copy()  # a view would keep the whole prompt alive
