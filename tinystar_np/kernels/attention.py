"""Attention: each token takes a weighted mean of the values of the tokens that it attends to.

    attention(q, k, v) = softmax(scale · q kᵀ + bias + mask) v

The query says what a token looks for, the key what a token offers, the value what it gives. ``scale`` is
1/√K in most models: the product of two random vectors of width K grows as √K, and a softmax of large
scores would give one token all the weight. The mask (kernels/masks.py) hides the future.
Vaswani et al. 2017, arXiv:1706.03762.

**Grouped queries.** Keys and values are what a model must remember of every token, H·K numbers of each.
Several query heads can share one head of them: H queries, G keys and values, R = H/G queries in a group;
G = H is multi-head attention, G = 1 multi-query attention (Shazeer 2019, arXiv:1911.02150; Ainslie et al.
2023, arXiv:2305.13245). The R queries of a group are nothing but R times as many queries to the same keys,
and so they are computed: no key is copied.

**Caps and sinks.** A soft cap c keeps scores within −c … c, c · tanh(s / c), so that no weight can become 0
or 1 (Gemma 2, arXiv:2408.00118). A sink is one more score of each head that belongs to no key: a head that
finds nothing to attend to gives it the weight (Xiao et al. 2023, arXiv:2309.17453; gpt-oss learns it).

**Biases** are numbers added to the scores, one for each key (kernels/alibi.py), or one for each distance
between a query and a key.

``attention`` builds all T·S scores of every head: 800 MB for GPT-2 at 4096 tokens, and as many exponentials,
half of them of scores that the mask throws away. kernels/blockwise_attention.py needs a block of them at a
time.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.kernels.softmax import softmax


def attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: Mask | None,
    *,
    scale: float,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Compute attention by the definition: softmax(scale · q kᵀ + bias + mask) v.

    q         (..., H, T, K)
    k         (..., G, S, K), where G divides H; queries of neighbouring heads share a group
    v         (..., G, S, K), or of another width than q and k
    mask      which keys each query may attend to; None for all
    scale     what the products q·k are multiplied by
    bias      added to the scaled scores: (..., H, S), for every query alike, or broadcastable to
              (..., H, T, S) with as many axes; None for nothing
    soft_cap  c, within which scaled scores are kept; None for no cap
    sinks     (H,), one more score for every query of a head; None for none

    Returns (..., H, T, K), as wide as the values.

    >>> q, k = np.array([[[1.0]]]), np.log([[[1.0], [3.0]]])  # scores 0 and log(3): weights 1/4 and 3/4
    >>> attention(q, k, np.array([[[0.0], [4.0]]]), None, scale=1.0).round(6).tolist()
    [[[3.0]]]
    """
    scores = attention_scores(q, k, scale=scale, bias=bias, soft_cap=soft_cap)
    probabilities = attention_probabilities(scores, mask, sinks)
    return attention_mean(probabilities, v)


def attention_scores(
    q: NDArray, k: NDArray, *, scale: float, bias: NDArray | None = None, soft_cap: float | None = None
) -> NDArray:
    """Compare every query with the keys of its group: (..., H, T, K), (..., G, S, K) → (..., H, T, S).

    scale, bias, soft_cap  as in ``attention``

    >>> attention_scores(np.array([[[1.0, 2.0]]]), np.array([[[3.0, 4.0], [2.0, -1.0]]]), scale=0.5).tolist()
    [[[5.5, 0.0]]]
    """
    *batch, H, T, K = q.shape
    G, S, _ = k.shape[-3:]
    grouped = q.reshape(*batch, G, H // G * T, K)
    scores = (grouped * q.dtype.type(scale) @ k.swapaxes(-1, -2)).reshape(*batch, H, T, S)
    if soft_cap is not None:
        scores = capped(scores, soft_cap)
    if bias is not None:
        scores = scores + (bias if bias.ndim == scores.ndim else bias[..., None, :])
    return scores


def capped(scores: NDArray, soft_cap: float) -> NDArray:
    """Keep scores within −c … c: c · tanh(scores / c).

    >>> capped(np.array([0.0, 1.0, 1000.0]), 50.0).round(2).tolist()
    [0.0, 1.0, 50.0]
    """
    c = scores.dtype.type(soft_cap)
    return c * np.tanh(scores / c)


def attention_probabilities(scores: NDArray, mask: Mask | None, sinks: NDArray | None = None) -> NDArray:
    """Take the softmax of the scores, 0 where a key is hidden: (..., H, T, S) → (..., H, T, S).

    sinks  (H,), one more score for every query of a head; None for none

    >>> attention_probabilities(np.zeros((1, 2, 2)), Mask(np.arange(2), np.arange(2))).tolist()
    [[[1.0, 0.0], [0.5, 0.5]]]
    """
    # −inf, not a large negative number: real models have scores beyond −1e5.
    masked = scores if mask is None else np.where(visible(mask), scores, scores.dtype.type(-np.inf))
    return softmax(masked, None if sinks is None else sinks[:, None, None])


def attention_mean(probabilities: NDArray, v: NDArray) -> NDArray:
    """Return the weighted means of the values: (..., H, T, S), (..., G, S, K) → (..., H, T, K), wide as v.

    >>> attention_mean(np.array([[[0.25, 0.75]]]), np.array([[[0.0], [4.0]]])).tolist()
    [[[3.0]]]
    """
    *batch, H, T, S = probabilities.shape
    G, _, K = v.shape[-3:]
    return (probabilities.reshape(*batch, G, H // G * T, S) @ v).reshape(*batch, H, T, K)


def bias_by_distance(table: NDArray, queries: int) -> NDArray:
    """Make the bias of each query and key from one number per distance; the queries are the last positions.

    table    (H, S + T − 1), for the distances from query to key −(S − 1), …, T − 1
    queries  T

    Returns (H, T, S), a read-only view: each row is the table, shifted by one place from the row before.

    >>> bias_by_distance(np.array([[-2, -1, 0, 1]]), 2).tolist()  # as a table, the distances themselves
    [[[-1, 0, 1], [-2, -1, 0]]]
    """
    keys = table.shape[-1] - queries + 1
    return sliding_window_view(table, keys, axis=-1)[:, ::-1]
