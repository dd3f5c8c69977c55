"""Softmax: maps scores to weights that are positive and sum to one.

    softmax(x)_i = exp(x_i) / Σ_j exp(x_j)

The largest score is subtracted first. It cancels in the fraction, and without it exp overflows float32
from 89 on. A score of −inf gets the weight 0 exactly: that is how masks work here.
"""

import numpy as np
from numpy.typing import NDArray

LOWEST = float(np.finfo(np.float32).min)


def softmax(x: NDArray, sink: NDArray | None = None) -> NDArray:
    """Compute the softmax over the last axis.

    x     (..., S), finite or −inf
    sink  (..., 1), one more score, whose weight is left out of the result; None for none

    Returns (..., S) in x's type. A row of nothing but −inf becomes zeros, not NaN. Scores whose difference
    overflows the type give the right weights and NumPy's overflow warning.

    >>> softmax(np.array([0.0, np.log(3), -np.inf])).round(6).tolist()
    [0.25, 0.75, 0.0]
    """
    # Finite even where all scores are −inf: −inf − (−inf) would be NaN.
    largest = np.max(x, axis=-1, keepdims=True, initial=np.finfo(x.dtype).min)
    if sink is not None:
        largest = np.maximum(largest, sink)
    weights = np.exp(x - largest)
    total = np.sum(weights, axis=-1, keepdims=True)
    if sink is not None:
        total = total + np.exp(sink - largest)
    return weights / np.maximum(total, 1)  # the largest score gives exp(0) = 1: only an empty row has less


def log_softmax(x: NDArray) -> NDArray:
    """Return the logarithm of ``softmax(x)``, without the underflow of taking it afterwards.

    x  (..., V), at least one finite value per row

    Returns (..., V) in x's type.

    >>> log_softmax(np.array([1000.0, 1000.0, 0.0])).round(3).tolist()  # log(1/2) = −0.693
    [-0.693, -0.693, -1000.693]
    """
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
