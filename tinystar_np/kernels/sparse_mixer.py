"""SparseMixer: two experts, each weighted against its close competitors alone.

Routers of other models weigh the chosen experts against each other: the larger one's weight, the smaller the
other's. Here each is chosen in a round of its own, by a softmax over those scores that are nearly as large
as the largest.

    round 1    e₁ = the largest of s                         s: E scores of the router
               C₁ = the e with (s_e₁ − s_e) / max(|s_e|, s_e₁) ≤ 2ε
               w₁ = softmax of s over C₁, at e₁
    round 2    the same without e₁: e₂, C₂ and w₂
    y          = w₁ expert_e₁(x) + w₂ expert_e₂(x)

With ε = 0.01 there is mostly no competitor, and both weights are 1: the layer adds up two whole experts. In
training a round draws its expert from the softmax instead of taking the largest, and moves the scores by an
estimate of what another choice would have changed (Heun's third-order method). A choice that is certain has
nothing to estimate, hence the limit to competitors.

Liu et al. 2023, arXiv:2310.00811; Liu et al. 2024 (GRIN), arXiv:2409.12136. Phi-3.5-MoE.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import softmax


def sparse_mixer_top_k(logits: NDArray, k: int, *, tolerance: float) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to its k best experts, each weighted in a round of its own.

    logits     (..., E), the router's scores
    k          how many rounds; the published models have two
    tolerance  ε, half of the share by which a competitor may be smaller

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> scores = np.array([4.0, 2.0, 2.0, 1.0])  # nothing is near 4; two are as large as each other
    >>> chosen, weights = sparse_mixer_top_k(scores, 2, tolerance=0.01)
    >>> chosen.tolist(), weights.tolist()
    ([0, 1], [1.0, 0.5])
    """
    remaining = logits
    chosen, weights = [], []
    for _ in range(k):
        best = remaining.argmax(axis=-1)[..., None]  # (..., 1)
        largest = np.take_along_axis(remaining, best, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):  # scores may be 0
            is_far = (largest - logits) / np.maximum(np.abs(logits), largest) > 2 * tolerance
        competitors = np.where(is_far, logits.dtype.type(-np.inf), remaining)
        chosen.append(best)
        weights.append(np.take_along_axis(softmax(competitors), best, axis=-1))
        remaining = remaining.copy()
        np.put_along_axis(remaining, best, -np.inf, axis=-1)
    return np.concatenate(chosen, axis=-1), np.concatenate(weights, axis=-1)
