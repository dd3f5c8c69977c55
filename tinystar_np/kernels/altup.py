"""Alternating updates (AltUp): a stream several times as wide, of which each layer computes one part.

A layer's cost grows with the square of the width D, what a vector can hold only with the width. So the stream
is P vectors x_1 … x_P of D numbers for each token, and a layer runs on one of them, x_a. The others are
predicted from all, and corrected by what the layer did to the one:

    x̂_j = x_j + Σ_i R_{ji} x_i                  predict: a small P × P matrix mixes the vectors
    y   = layer(x̂_a)                            the usual layer, D wide
    x_j = x̂_j + (c_j + 1) (y − x̂_a)             correct: all move as the active one did, each by its share

R and c depend on the token, through P numbers in −1 to 1 that a router makes of the active vector. Before the
first layer the other vectors are projections of the embedding, as long as it is; after the last all are
projected back and averaged. Baykal et al. 2023, arXiv:2301.13310; Gemma 3n (Google 2025) has P = 4.
"""

import numpy as np
from numpy.typing import NDArray


def predict(x: NDArray, mixing: NDArray) -> NDArray:
    """Predict each vector of the stream from all of them.

    x       (B, T, P, D)
    mixing  R (B, T, P, P)

    Returns x̂ (B, T, P, D), a new array.

    >>> x = np.array([[[[1.0], [10.0]]]])  # P = 2, D = 1
    >>> predict(x, np.array([[[[0.0, 0.5], [2.0, 0.0]]]])).ravel().tolist()  # 1 + 0.5 · 10, 10 + 2 · 1
    [6.0, 12.0]
    """
    return x + mixing @ x


def correct(predicted: NDArray, y: NDArray, active: int, shares: NDArray) -> NDArray:
    """Move every vector of the stream as the layer moved the active one.

    predicted  x̂ (B, T, P, D)
    y          (B, T, D), what the layer made of the active one
    active     a, from 0
    shares     c (B, T, P)

    Returns (B, T, P, D), a new array.

    >>> predicted = np.array([[[[6.0], [12.0]]]])
    >>> correct(predicted, np.array([[[7.0]]]), 0, np.array([[[0.0, 1.0]]])).ravel().tolist()
    [7.0, 14.0]
    """
    moved = y - predicted[..., active, :]
    return predicted + (shares[..., None] + shares.dtype.type(1)) * moved[..., None, :]


def match_rms(x: NDArray, other: NDArray, least: float = 1e-5) -> NDArray:
    """Scale vectors to the root mean square of others.

    x, other  (..., D), or shapes that fit one another
    least     mean squares of x below this count as this

    Returns x's shape, a new array.

    >>> match_rms(np.array([3.0, 4.0]), np.array([6.0, 8.0])).tolist()
    [6.0, 8.0]
    """
    squares = np.maximum(np.mean(x * x, axis=-1, keepdims=True), x.dtype.type(least))
    return x * np.sqrt(np.mean(other * other, axis=-1, keepdims=True)) / np.sqrt(squares)
