"""Hash routing: the experts of a token are looked up, by the token's id alone.

A router that learns which experts to choose has little to go by in the first layers, where a vector says
hardly more than which token it is. There the choice may as well be fixed: a table has k experts for each
token of the vocabulary, drawn before training so that all experts get about as much to do. Nothing has to be
balanced, and no token jumps from one expert to another while these learn. Roller et al. 2021,
arXiv:2106.04426.

DeepSeek-V4 does so in its first layers, and still learns how much each of the chosen counts:

    g = score(x W_router)                          a score for each of the E experts, at least 0
    C = table[id], or the k best of g + correction
    w = factor · g_C / (Σ g_C + 1e−20)

Its score is √softplus(s), which grows without end as sigmoids do not, and slowly.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import Activation
from tinystar_np.kernels.experts import top_k


def scores_of_chosen(
    logits: NDArray,
    chosen: NDArray[np.integer],
    *,
    score: Activation,
    factor: float,
    times: NDArray | None = None,
) -> NDArray:
    """Weight chosen experts by their shares of the chosen ones' scores.

    logits  (..., E), the router's
    chosen  C (..., k)
    score   makes scores of them, at least 0
    factor  what the weights sum to
    times   how often each expert counts (..., k); None for once

    Returns w (..., k).

    >>> scores_of_chosen(np.array([1.0, 3.0, 5.0]), np.array([1, 0]), score=abs, factor=2.0).tolist()
    [1.5, 0.5]
    """
    weights = score(np.take_along_axis(logits, chosen, axis=-1))
    weights = weights if times is None else weights * times
    return weights / (weights.sum(axis=-1, keepdims=True) + logits.dtype.type(1e-20)) * factor


def scored_top_k(
    logits: NDArray, k: int, *, correction: NDArray, score: Activation, factor: float
) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to the k experts of the best corrected scores, weighted by the scores alone.

    correction  (E,), added to the scores for the choice (kernels/experts.py, ``sigmoid_grouped_top_k``)
    others      as of ``scores_of_chosen``

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> logits, correction = np.array([1.0, 3.0, 2.0]), np.array([5.0, 0.0, 0.0])
    >>> chosen, weights = scored_top_k(logits, 2, correction=correction, score=abs, factor=1.0)
    >>> chosen.tolist(), weights.tolist()
    ([0, 1], [0.25, 0.75])
    """
    chosen = top_k(score(logits) + correction, k)
    return chosen, scores_of_chosen(logits, chosen, score=score, factor=factor)


def with_each_once(table: NDArray[np.integer], experts: int) -> tuple[NDArray[np.intp], NDArray | None]:
    """Rewrite a table so that no token has an expert twice, and say how often it had it.

    table    (V, k)
    experts  E, at least k

    Returns (V, k) and how often each of them was named, (V, k): 0 for experts that fill a row up. None in
    place of that where no token had an expert twice; the table is then as it was.

    >>> found, times = with_each_once(np.array([[2, 0], [1, 1]]), 3)
    >>> found.tolist(), times.tolist()
    ([[0, 2], [1, 0]], [[1.0, 1.0], [2.0, 0.0]])
    """
    in_order = np.sort(table, axis=-1)
    if (in_order[:, 1:] != in_order[:, :-1]).all():
        return table.astype(np.intp), None
    times = np.zeros((len(table), experts), dtype=np.float32)
    np.add.at(times, (np.arange(len(table))[:, None], table), 1)
    chosen = top_k(times, table.shape[1]).copy()  # of a view, all E columns would stay in memory
    return chosen, np.take_along_axis(times, chosen, axis=-1)
