"""Hyper-connections: several residual streams, and for each token a way in, a way out and a mixing of them.

A residual connection adds what a layer computes to what it read. Here a token has N streams x_1 … x_N of D
numbers. A layer reads one mean of them, what it gives is added to each by a share, and the streams themselves
are mixed:

    a    = Σ_j p_j x_j                          the way in: what the layer reads
    x_k ← q_k layer(a) + Σ_j M_jk x_j           the way out, and the mixing

With N = 1 and p = q = M = 1 that is the residual connection. p, q and M are made of the token itself, by one
linear map of all its streams, normed:

    s = norm(x_1 … x_N) W                       2N + N² numbers, in three parts
    p = sigmoid(α_1 s_p + b_p) + ε
    q = 2 sigmoid(α_2 s_q + b_q)
    M = doubly stochastic(softmax of each row of (α_3 s_M + b_M))

Hyper-connections (Zhu et al. 2024, arXiv:2409.19606) leave M free. A product of sixty free matrices grows or
vanishes, and the streams with it. So M is kept on a manifold, the matrices of which each row and each column
sums to 1: what is mixed is then no larger than before, and a product of such matrices is another. They are
reached by dividing rows and columns by their sums in turn (Sinkhorn & Knopp 1967). Xie et al. 2025,
arXiv:2512.24880; DeepSeek-V4 has N = 4 and twenty rounds.

ε is added to p, to every number of M and to every sum that is divided by.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import sigmoid
from tinystar_np.kernels.softmax import softmax


class Connections(NamedTuple):
    """How a layer is connected to the streams of each token.

    into     p (B, T, N)
    back     q (B, T, N)
    mixing   M (B, T, N, N), from the first axis of streams to the second
    """

    into: NDArray
    back: NDArray
    mixing: NDArray


def connections(scores: NDArray, scale: NDArray, bias: NDArray, *, rounds: int, eps: float) -> Connections:
    """Make the connections of each token of its 2N + N² scores.

    scores  s (B, T, 2N + N²)
    scale   α (3,)
    bias    b (2N + N²,)
    rounds  how often columns are divided by their sums
    eps     ε

    >>> p, q, M = connections(np.zeros((1, 1, 8)), np.ones(3), np.zeros(8), rounds=1, eps=0.0)
    >>> p.tolist(), q.tolist(), M.tolist()
    ([[[0.5, 0.5]]], [[[1.0, 1.0]]], [[[[0.5, 0.5], [0.5, 0.5]]]])
    """
    N = streams_of(len(bias))
    s = scores * np.repeat(scale, (N, N, N * N)) + bias
    floor = s.dtype.type(eps)
    mixing = softmax(s[..., 2 * N :].reshape(*s.shape[:-1], N, N)) + floor
    return Connections(
        sigmoid(s[..., :N]) + floor,
        2 * sigmoid(s[..., N : 2 * N]),
        doubly_stochastic(mixing, rounds=rounds, eps=eps),
    )


def streams_of(scores: int) -> int:
    """Return N, of which there are 2N + N² scores.

    >>> streams_of(24)
    4
    """
    return int((1 + scores) ** 0.5) - 1


def doubly_stochastic(matrix: NDArray, *, rounds: int, eps: float) -> NDArray:
    """Divide columns and rows by their sums in turn, columns first and last.

    matrix  (..., N, N), above 0
    rounds  how often columns are divided, at least 1; rows once less
    eps     added to each sum

    Returns (..., N, N), a new array.

    >>> doubly_stochastic(np.array([[1.0, 3.0], [1.0, 1.0]]), rounds=30, eps=0.0).round(3).tolist()
    [[0.366, 0.634], [0.634, 0.366]]
    """
    floor = matrix.dtype.type(eps)
    matrix = matrix / (matrix.sum(axis=-2, keepdims=True) + floor)
    for _ in range(rounds - 1):
        matrix /= matrix.sum(axis=-1, keepdims=True) + floor
        matrix /= matrix.sum(axis=-2, keepdims=True) + floor
    return matrix


def collapsed(x: NDArray, into: NDArray) -> NDArray:
    """Return what a layer reads: (B, T, N, D) and p (B, T, N) → (B, T, D).

    >>> collapsed(np.array([[[[1.0], [10.0]]]]), np.array([[[1.0, 0.5]]])).tolist()
    [[[6.0]]]
    """
    return (into[..., None, :] @ x)[..., 0, :]


def connected(x: NDArray, y: NDArray, back: NDArray, mixing: NDArray) -> NDArray:
    """Mix the streams, and add to each its share of what the layer gives.

    x       (B, T, N, D)
    y       (B, T, D)
    back    q (B, T, N)
    mixing  M (B, T, N, N)

    Returns (B, T, N, D), a new array.

    >>> x, y, back = np.array([[[[1.0], [10.0]]]]), np.array([[[100.0]]]), np.array([[[1.0, 2.0]]])
    >>> connected(x, y, back, np.array([[[[0.0, 1.0], [1.0, 0.0]]]])).ravel().tolist()  # exchanged
    [110.0, 201.0]
    """
    return mixing.swapaxes(-1, -2) @ x + back[..., None] * y[..., None, :]
