"""Mixture of experts: many feed-forward layers, of which each token uses a few.

Most of a model's weights are in its feed-forward layers, and a token needs a small part of them. So a layer
has E experts, each a feed-forward layer of its own, and a router, a linear map, which gives every token a
score for each of them. The k experts of the largest scores run; their outputs are added, weighted by these
scores.

    s = x W_router                    E scores
    C = the k largest of s
    w = softmax of s over C           k weights, which sum to 1
    y = Σ_{e ∈ C} w_e expert_e(x)

Others take the softmax over all E scores first, and then its k largest weights. These sum to less than 1;
scaled to sum to 1, they are the weights above.

    w = softmax of s, of which C alone is used       Qwen and OLMoE, where nothing is scaled
    w = w / ‖w_C‖_p                                  DBRX, p = 1 in the model as published

Llama 4 weights each expert by the sigmoid of its own score, and multiplies the expert's input instead of its
output. Experts are not linear, so the two are not the same:

    y = Σ_{e ∈ C} expert_e(sigmoid(s_e) · x)

The model has the weights of E experts and the cost of k. Training cannot move the choice by small steps (it
has no gradient), but it moves the weights: an expert that helped is chosen more often. Left alone, a few
experts would get all tokens, so training adds noise, or a penalty on uneven loads, or drops tokens of an
expert that is full. Inference does none of this. Shazeer et al. 2017, arXiv:1701.06538; GShard (Lepikhin et
al. 2020, arXiv:2006.16668); Switch, with k = 1 (Fedus et al. 2021, arXiv:2101.03961); Mixtral (Jiang et al.
2024, arXiv:2401.04088).

``mixture`` is the last line of the formula, one token and one expert at a time. Every step reads a whole
expert for one vector: a prompt of T tokens reads k·T of them.

Experts need not be whole layers. JetMoe's are the queries of attention and its output: their results are not
added at once, and ``chosen_outputs`` gives each choice's own.

``grouped_mixture`` sorts the T·k choices by expert, so that each chosen expert is read once, for all its
tokens in one product. Outputs are added in the experts' order instead of the order of their scores.
``grouped_outputs`` does the same for ``chosen_outputs``.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import softmax

Expert = Callable[[NDArray], NDArray]
"""Maps (n, D) to a new array (n, D), each row by itself."""


def top_k(scores: NDArray, k: int) -> NDArray[np.intp]:
    """Return the indices of the k largest scores: (..., E) → (..., k), the largest first, ties by index.

    >>> top_k(np.array([0.1, 0.7, 0.2]), 2).tolist()
    [1, 2]
    """
    # np.argpartition would compare less, but beside the experts' products neither takes measurable time.
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def top_k_softmax(logits: NDArray, k: int) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to its k best experts, weighted by the softmax over these alone.

    logits  (..., E), the router's scores

    A softmax over all E whose k largest values are scaled to sum to 1 is the same.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> chosen, weights = top_k_softmax(np.log([6.0, 1.0, 2.0, 1.0]), 2)
    >>> chosen.tolist(), weights.round(6).tolist()  # 6/8 and 2/8
    ([0, 2], [0.75, 0.25])
    """
    chosen = top_k(logits, k)
    return chosen, softmax(np.take_along_axis(logits, chosen, axis=-1))


def softmax_top_k(logits: NDArray, k: int) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to its k best experts, weighted by the softmax over all.

    logits  (..., E), the router's scores

    The weights sum to less than 1 where k < E: where all scores are alike, the layer adds little.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> chosen, weights = softmax_top_k(np.log([6.0, 1.0, 2.0, 1.0]), 2)
    >>> chosen.tolist(), weights.round(6).tolist()  # 6/10 and 2/10
    ([0, 2], [0.6, 0.2])
    """
    chosen = top_k(logits, k)  # a softmax keeps the order
    return chosen, np.take_along_axis(softmax(logits), chosen, axis=-1)


def sigmoid_top_k(logits: NDArray, k: int) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to its k best experts, each weighted by its score's sigmoid.

    logits  (..., E), the router's scores

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> chosen, weights = sigmoid_top_k(np.log([1.0, 3.0, 9.0]), 2)
    >>> chosen.tolist(), weights.round(6).tolist()  # 9/10 and 3/4
    ([2, 1], [0.9, 0.75])
    """
    chosen = top_k(logits, k)  # by the scores: sigmoids of large ones are equal, 1 in float32
    return chosen, _exact_sigmoid(np.take_along_axis(logits, chosen, axis=-1))


def softmax_top_k_normed(logits: NDArray, k: int, p: float) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to its k best experts, the softmax over all scaled to length 1 in the p-norm.

    logits  (..., E), the router's scores
    p       of ‖w‖_p = (Σ |w|^p)^(1/p), above 0; infinity for the largest. With 1, this is ``top_k_softmax``.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> chosen, weights = softmax_top_k_normed(np.log([4.0, 1.0, 3.0]), 2, p=2.0)
    >>> chosen.tolist(), weights.round(6).tolist()  # 4 : 3, and 0.8² + 0.6² = 1
    ([0, 2], [0.8, 0.6])
    """
    chosen, weights = top_k_softmax(logits, k)  # what these were scaled by before makes no difference
    return chosen, weights / np.linalg.norm(weights, ord=p, axis=-1, keepdims=True)


def group_limited_top_k(
    logits: NDArray, k: int, *, groups: int = 1, kept: int = 1, factor: float = 1.0
) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to the k best experts of its best groups, weighted by the softmax over all.

    logits  (..., E), the router's scores
    groups  into how many runs of neighbours the experts are divided; divides E
    kept    how many groups a token may use, those with the best single experts
    factor  what the weights are multiplied by: many small ones, not scaled to sum to 1, add up to little

    In training a group's experts share a device, and no token is sent to more than ``kept`` devices.
    DeepSeek-V2, Liu et al. 2024, arXiv:2405.04434.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> chosen, weights = group_limited_top_k(np.log([6.0, 1.0, 2.0, 1.0]), 2, groups=2)
    >>> chosen.tolist(), weights.round(6).tolist()  # expert 2 is better than 1, but in the other group
    ([0, 1], [0.6, 0.1])
    """
    scores = softmax(logits)
    by_group = scores.reshape(*scores.shape[:-1], groups, -1)
    scores = np.where(_in_best_groups(by_group.max(axis=-1), kept, scores.shape[-1]), scores, np.float32(0))
    chosen = top_k(scores, k)
    return chosen, np.take_along_axis(scores, chosen, axis=-1) * factor


def sigmoid_grouped_top_k(
    logits: NDArray,
    k: int,
    *,
    correction: NDArray,
    groups: int = 1,
    kept: int = 1,
    normed: bool = True,
    factor: float = 1.0,
    eps: float = 1e-20,
) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to the k best experts of its best groups, each weighted by its score's sigmoid.

    logits      (..., E), the router's scores
    correction  (E,), added to the scores for the choice alone, not to the weights
    groups      as in ``group_limited_top_k``
    kept        how many groups a token may use, those with the largest sum of their two best scores
    normed      whether the weights are scaled to sum to 1
    factor      what they are multiplied by after that
    eps         added to their sum

    The correction is not trained by gradients: each step of training raises it for experts that got too few
    tokens and lowers it for those that got too many, so that loads are even with hardly a penalty in the
    loss. DeepSeek-V3, arXiv:2412.19437; Wang et al. 2024, arXiv:2408.15664.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> logits, correction = np.log([3.0, 1.0]), np.array([0.0, 0.5])  # corrected scores 0.75 and 1
    >>> chosen, weights = sigmoid_grouped_top_k(logits, 1, correction=correction, normed=False)
    >>> chosen.tolist(), weights.round(6).tolist()
    ([1], [0.5])
    """
    scores = _exact_sigmoid(logits)
    corrected = scores + correction
    by_group = np.sort(corrected.reshape(*corrected.shape[:-1], groups, -1), axis=-1)
    best = _in_best_groups(by_group[..., -2:].sum(axis=-1), kept, corrected.shape[-1])
    chosen = top_k(np.where(best, corrected, -np.float32(np.inf)), k)
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if normed:
        weights /= weights.sum(axis=-1, keepdims=True) + np.float32(eps)
    return chosen, weights * factor


def softmax_grouped_top_k(
    logits: NDArray, k: int, *, groups: int = 1, kept: int = 1, normed: bool = True, factor: float = 1.0
) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to the k best experts of its best groups, weighted by the softmax over all.

    logits  (..., E), the router's scores
    groups  as in ``group_limited_top_k``
    kept    how many groups a token may use, those with the largest sum of their two best weights
    normed  whether the weights are scaled to sum to 1
    factor  what they are multiplied by after that

    The choice of ``sigmoid_grouped_top_k`` without a correction, by the weights of ``group_limited_top_k``:
    Mistral 4.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> logits = np.log([6.0, 1.0, 4.0, 5.0])  # the best single expert is not in the best pair
    >>> chosen, weights = softmax_grouped_top_k(logits, 1, groups=2, normed=False)
    >>> chosen.tolist(), weights.round(6).tolist()
    ([3], [0.3125])
    """
    scores = softmax(logits)
    by_group = np.sort(scores.reshape(*scores.shape[:-1], groups, -1), axis=-1)
    best = _in_best_groups(by_group[..., -2:].sum(axis=-1), kept, scores.shape[-1])
    chosen = top_k(np.where(best, scores, np.float32(0)), k)
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if normed:
        weights /= weights.sum(axis=-1, keepdims=True) + np.float32(1e-20)
    return chosen, weights * factor


def softmax_corrected_top_k(
    logits: NDArray, k: int, *, correction: NDArray, factor: float = 1.0, least: float | None = None
) -> tuple[NDArray[np.intp], NDArray]:
    """Route each token to the k experts of the best corrected softmax, weighted by the softmax alone.

    logits      (..., E), the router's scores
    correction  (E,), added to the softmax for the choice alone, as in ``sigmoid_grouped_top_k``
    factor      what the weights are multiplied by
    least       what the weights are at least divided by, so that they sum to 1 where they can (ERNIE 4.5);
                None leaves them as they are (LongCat-Flash)

    Where some of the E give back what they are given, zero-computation experts, the correction also decides
    how many experts with weights a token gets on average: it costs less than k of them, and a token that
    needs more gets more. LongCat-Flash, arXiv:2509.01322.

    Returns the chosen experts and their weights, each (..., k), the best first.

    >>> logits, correction = np.log([6.0, 3.0, 1.0]), np.array([0.0, 0.0, 0.6])
    >>> chosen, weights = softmax_corrected_top_k(logits, 2, correction=correction)
    >>> chosen.tolist(), weights.round(6).tolist()
    ([2, 0], [0.1, 0.6])
    >>> softmax_corrected_top_k(logits, 2, correction=correction, least=1e-12)[1].round(6).tolist()
    [0.142857, 0.857143]
    """
    scores = softmax(logits)
    chosen = top_k(scores + correction, k)
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if least is not None:
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), weights.dtype.type(least))
    return chosen, weights * weights.dtype.type(factor)


def _exact_sigmoid(logits: NDArray) -> NDArray:
    """Map scores into 0 … 1, exact to the last digit where the result is small."""
    return np.exp(-np.logaddexp(np.float32(0), -logits))


def _in_best_groups(group_scores: NDArray, kept: int, experts: int) -> NDArray[np.bool_]:
    """Mark the experts of the ``kept`` best groups: (..., groups) → (..., E)."""
    is_best = np.zeros(group_scores.shape, dtype=bool)
    np.put_along_axis(is_best, top_k(group_scores, kept), True, axis=-1)
    return np.repeat(is_best, experts // group_scores.shape[-1], axis=-1)


def mixture(
    x: NDArray,
    chosen: NDArray[np.integer],
    weights: NDArray,
    experts: Sequence[Expert | None],
    weigh_inputs: bool = False,
) -> NDArray:
    """Return the weighted sum of the outputs of each token's experts: the definition.

    x             (T, D)
    chosen        (T, k), no expert twice in a row
    weights       (T, k)
    experts       E of them, each from (n, D) to (n, D); None for one that adds nothing
    weigh_inputs  whether a weight multiplies its expert's input instead of its output

    Returns (T, D), a new array.

    >>> experts = [lambda x: 10 * x, lambda x: 100 * x]
    >>> mixture(np.array([[1.0]]), np.array([[1, 0]]), np.array([[0.75, 0.25]]), experts).tolist()
    [[77.5]]
    """
    y = np.zeros_like(x)
    for t in range(len(x)):
        for e, weight in zip(chosen[t], weights[t], strict=True):
            expert = experts[e]
            if expert is None:
                continue
            if weigh_inputs:
                y[t] += expert(weight * x[t : t + 1])[0]
            else:
                y[t] += weight * expert(x[t : t + 1])[0]
    return y


def grouped_mixture(
    x: NDArray,
    chosen: NDArray[np.integer],
    weights: NDArray,
    experts: Sequence[Expert | None],
    weigh_inputs: bool = False,
) -> NDArray:
    """Compute ``mixture``, with the same arguments, one expert after the other, all its tokens at once.

    Experts that no token chose are not called, and nothing is copied for those that add nothing.

    >>> x, chosen, weights = np.array([[1.0], [2.0]]), np.array([[1], [0]]), np.array([[0.5], [1.0]])
    >>> grouped_mixture(x, chosen, weights, [lambda x: 10 * x, lambda x: 100 * x]).tolist()
    [[50.0], [20.0]]
    """
    y = np.zeros_like(x)
    k = chosen.shape[-1]
    order = np.argsort(chosen, axis=None, kind="stable")  # (T·k,): choices, those of one expert together
    counts = np.bincount(chosen.ravel())  # (E,), or less where no token chose the last ones
    ends = np.cumsum(counts)
    for e in np.flatnonzero(counts).tolist():
        expert = experts[e]
        if expert is None:
            continue
        choices = order[ends[e] - counts[e] : ends[e]]
        tokens = choices // k
        weight = weights.ravel()[choices, None]
        if weigh_inputs:
            part = expert(x[tokens] * weight)  # (n, D)
        else:
            part = expert(x[tokens])
            part *= weight
        y[tokens] += part  # no token is in it twice: it chose k different experts
    return y


def chosen_outputs(x: NDArray, chosen: NDArray[np.integer], experts: Sequence[Expert]) -> NDArray:
    """Return what each token's experts give, each by itself: the definition.

    x        (T, k, D), what each choice reads
    chosen   (T, k)
    experts  E of them, each from (n, D) to (n, F)

    Returns (T, k, F), a new array.

    >>> experts = [lambda x: 10 * x, lambda x: 100 * x]
    >>> chosen_outputs(np.array([[[1.0], [2.0]]]), np.array([[1, 0]]), experts).tolist()
    [[[100.0], [20.0]]]
    """
    flat = x.reshape(-1, x.shape[-1])
    y = [experts[e](flat[i : i + 1]) for i, e in enumerate(chosen.ravel().tolist())]
    return np.concatenate(y).reshape(*chosen.shape, -1)


def grouped_outputs(x: NDArray, chosen: NDArray[np.integer], experts: Sequence[Expert]) -> NDArray:
    """Compute ``chosen_outputs``, with the same arguments, one expert after the other, all choices at once.

    >>> x, chosen = np.array([[[1.0]], [[2.0]]]), np.array([[1], [0]])
    >>> grouped_outputs(x, chosen, [lambda x: 10 * x, lambda x: 100 * x]).tolist()
    [[[100.0]], [[20.0]]]
    """
    flat = x.reshape(-1, x.shape[-1])
    order = np.argsort(chosen, axis=None, kind="stable")  # (T·k,): choices, those of one expert together
    counts = np.bincount(chosen.ravel())
    used = np.flatnonzero(counts).tolist()
    groups = np.split(order, np.cumsum(counts[used])[:-1])
    parts = [experts[e](flat[group]) for e, group in zip(used, groups, strict=True)]
    y = np.empty((len(flat), parts[0].shape[-1]), dtype=x.dtype)
    y[order] = np.concatenate(parts)
    return y.reshape(*chosen.shape, -1)
