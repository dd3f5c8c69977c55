"""Mixture of experts: many feed-forward layers, of which each token uses a few.

Most of a model's weights stand in its feed-forward layers, and a token needs what a small part of them knows.
So a layer has E experts, each a feed-forward layer of its own, and a router, a linear map, which gives every
token a score for each of them. The k best compute; their results are added, the better liked the louder.

    s = x W_router                    E scores
    C = the k largest of s
    w = softmax of s over C           k weights, which sum to 1
    y = Σ_{e ∈ C} w_e expert_e(x)

The model has the weights of E experts and the cost of k. The choice itself has no gradient, but the weights
have: an expert that helped is called more often. Left alone, a few experts would take everything, so training
adds noise, or a penalty on uneven loads, or turns tokens away from an expert that is full. Inference does
none of this. Shazeer et al. 2017, arXiv:1701.06538; GShard (Lepikhin et al. 2020, arXiv:2006.16668); Switch,
with k = 1 (Fedus et al. 2021, arXiv:2101.03961); Mixtral (Jiang et al. 2024, arXiv:2401.04088).

``mixture`` is the last line of the formula, one token and one expert at a time. Every step reads a whole
expert for one vector: a prompt of T tokens reads k·T of them.

``grouped_mixture`` is what runs. It sorts the T·k choices by expert, so that each expert that was chosen at
all is read once, for all its tokens in one product. The terms of a sum come in the experts' order instead of
the order of their scores; they are the same terms.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import softmax

Expert = Callable[[NDArray], NDArray]
"""Maps (n, D) to a new array (n, D), each row by itself."""


def top_k(scores: NDArray, k: int) -> NDArray[np.intp]:
    """Choose the k largest scores: (..., E) → (..., k) their places, the largest first, ties by place."""
    # A partition would do with fewer comparisons; beside the experts' products neither is seen.
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def top_k_softmax(logits: NDArray, k: int) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to its k best experts, weighted by the softmax over these alone.

    logits  (..., E), the router's scores

    A softmax over all E whose k largest values are scaled to sum to 1 is the same.

    Returns the chosen experts and their weights, each (..., k), the best first.
    """
    chosen = top_k(logits, k)
    return chosen, softmax(np.take_along_axis(logits, chosen, axis=-1))


def mixture(x: NDArray, chosen: NDArray[np.integer], weights: NDArray, experts: Sequence[Expert]) -> NDArray:
    """Add up what each token's experts make of it: the definition.

    x        (T, D)
    chosen   (T, k), no expert twice in a row
    weights  (T, k)
    experts  E of them

    Returns (T, D), a new array.
    """
    y = np.zeros_like(x)
    for t in range(len(x)):
        for e, weight in zip(chosen[t], weights[t], strict=True):
            y[t] += weight * experts[e](x[t : t + 1])[0]
    return y


def grouped_mixture(
    x: NDArray, chosen: NDArray[np.integer], weights: NDArray, experts: Sequence[Expert]
) -> NDArray:
    """Add up what each token's experts make of it, one expert after the other.

    x        (T, D)
    chosen   (T, k), no expert twice in a row
    weights  (T, k)
    experts  E of them; those that nobody chose are not called

    Returns (T, D), a new array.
    """
    y = np.zeros_like(x)
    k = chosen.shape[-1]
    order = np.argsort(chosen, axis=None, kind="stable")  # (T·k,): choices, those of one expert together
    counts = np.bincount(chosen.ravel())  # (E,), or less where nobody chose the last ones
    ends = np.cumsum(counts)
    for e in np.flatnonzero(counts).tolist():
        choices = order[ends[e] - counts[e] : ends[e]]
        tokens = choices // k
        part = experts[e](x[tokens])  # (n, D)
        part *= weights.ravel()[choices, None]
        y[tokens] += part  # no token stands here twice: it chose k different experts
    return y
