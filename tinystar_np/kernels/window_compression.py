"""Window compression: one vector to attend to for each m tokens of a text.

What attention remembers grows with the text, one key and value for each token. Of distant tokens less will
do: a text is cut into windows of m tokens, and of each window one entry is kept, a mean of vectors C that its
tokens give. Each number of the entry is a mean by itself, with a softmax over the window of its own:

    c_i = Σ_j softmax_j(Z_{im+j} + b_j) ∘ C_{im+j}          j = 0 … m − 1

C and Z are linear maps of the tokens, b says how much each place of a window counts. A window that is not
full yet has no entry; its tokens are near enough to be attended to one by one. So a query at position t finds
the entries i with (i + 1) m − 1 ≤ t.

**Overlapping windows.** Where m is small, what belongs together is cut apart. Then each token gives two
vectors of each kind, A for the entry after its own window's and B for its own:

    c_i = one softmax over the A of window i − 1 and the B of window i, 2m vectors

DeepSeek-V4 has overlapping windows of 4 tokens, among whose entries an indexer chooses
(kernels/sparse_attention.py), and windows of 128 that do not overlap, in turn. DeepSeek-AI 2026.

``compressed`` and ``compressed_overlapping`` are the definitions, of a whole text.

Of a text that comes in pieces nothing need be kept but sums: a softmax is a quotient of two, and these can be
added up in any order as long as both know the largest score so far (kernels/blockwise_attention.py). ``Sums``
of a window that is not full are three numbers for each number of an entry, however long the window is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import LOWEST


def compressed(values: NDArray, gates: NDArray, bias: NDArray) -> NDArray:
    """Make an entry of each full window of a text.

    values  C (B, T, K)
    gates   Z (B, T, K)
    bias    b (m, K)

    Returns (B, ⌊T / m⌋, K).

    >>> values, gates = np.array([[[1.0], [3.0], [5.0]]]), np.zeros((1, 3, 1))
    >>> compressed(values, gates, np.zeros((2, 1))).tolist()
    [[[2.0]]]
    >>> compressed(values, gates, np.log([[1.0], [3.0]])).round(6).tolist()
    [[[2.5]]]
    """
    m = len(bias)
    full = values.shape[1] // m * m
    values, gates = (x[:, :full].reshape(len(x), -1, m, x.shape[-1]) for x in (values, gates))
    weights = np.exp(gates + bias - np.max(gates + bias, axis=2, keepdims=True))
    return np.sum(values * weights, axis=2) / np.sum(weights, axis=2)


def compressed_overlapping(values: NDArray, gates: NDArray, bias: NDArray) -> NDArray:
    """Make an entry of each full window of a text and the one before it.

    values  C of both kinds, A before B: (B, T, 2K)
    gates   Z (B, T, 2K)
    bias    b (m, 2K)

    Returns (B, ⌊T / m⌋, K).

    >>> values, gates = np.array([[[2.0, 4.0], [0.0, 6.0]]]), np.zeros((1, 2, 2))
    >>> compressed_overlapping(values, gates, np.zeros((1, 2))).tolist()  # 4; the mean of 2 and 6
    [[[4.0], [4.0]]]
    """
    m, K = len(bias), bias.shape[1] // 2
    n = values.shape[1] // m
    biased = gates[:, : n * m].reshape(len(gates), n, m, 2 * K) + bias
    given = values[:, : n * m].reshape(biased.shape)
    entries = np.empty((len(values), n, K), dtype=values.dtype)
    for i in range(n):
        before = slice(max(i - 1, 0), i)  # none before the first
        Z = np.concatenate([*biased[:, before, :, :K].swapaxes(0, 1), biased[:, i, :, K:]], axis=1)
        C = np.concatenate([*given[:, before, :, :K].swapaxes(0, 1), given[:, i, :, K:]], axis=1)
        weights = np.exp(Z - Z.max(axis=1, keepdims=True))
        entries[:, i] = np.sum(C * weights, axis=1) / np.sum(weights, axis=1)
    return entries


class Sums(NamedTuple):
    """What is kept of some tokens of a window, each (..., K).

    largest   the largest Z + b; ``LOWEST`` where there is no token
    total     Σ exp(Z + b − largest)
    weighted  Σ exp(Z + b − largest) C
    """

    largest: NDArray
    total: NDArray
    weighted: NDArray


def no_sums(*shape: int) -> Sums:
    """Return the sums of no tokens.

    >>> means(no_sums(1, 2)).tolist()
    [[0.0, 0.0]]
    """
    zeros = np.zeros(shape, dtype=np.float32)
    return Sums(np.full_like(zeros, LOWEST), zeros, zeros)


def sums_of(values: NDArray, gates: NDArray) -> Sums:
    """Add up the tokens of each window: C and Z + b, (..., m, K) each, −∞ in gates for none → (..., K).

    >>> largest, total, weighted = sums_of(np.array([[1.0], [4.0]]), np.array([[5.0], [5.0]]))
    >>> largest.tolist(), total.tolist(), weighted.tolist()
    ([5.0], [2.0], [5.0])
    """
    largest = np.max(gates, axis=-2, initial=gates.dtype.type(LOWEST))
    weights = np.exp(gates - largest[..., None, :])
    return Sums(largest, np.sum(weights, axis=-2), np.sum(weights * values, axis=-2))


def merged(a: Sums, b: Sums) -> Sums:
    """Return the sums of both, of the same shapes.

    >>> one = sums_of(np.array([[1.0]]), np.array([[0.0]])), sums_of(np.array([[4.0]]), np.log([[2.0]]))
    >>> means(merged(*one)).tolist()  # (1 · 1 + 2 · 4) / 3
    [3.0]
    """
    largest = np.maximum(a.largest, b.largest)
    of_a, of_b = np.exp(a.largest - largest), np.exp(b.largest - largest)
    return Sums(largest, of_a * a.total + of_b * b.total, of_a * a.weighted + of_b * b.weighted)


def means(sums: Sums) -> NDArray:
    """Return the entries that sums stand for, 0 where there was no token.

    >>> means(Sums(np.zeros(2), np.array([2.0, 0.0]), np.array([5.0, 0.0]))).tolist()
    [2.5, 0.0]
    """
    none = sums.total == 0
    return np.where(none, sums.weighted, sums.weighted / np.where(none, sums.total.dtype.type(1), sums.total))
