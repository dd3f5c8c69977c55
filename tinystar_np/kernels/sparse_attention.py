"""Sparse attention with an indexer: a query attends to the k keys that a cheap scorer ranks highest.

In a long text attention spends most of its work on keys that get no weight. Which these are is known only
after the scores, which are that work. An indexer guesses them: it has scores of its own, from J heads of I
numbers each for queries and a single key for each token, and none of their products is followed by a softmax
or by values.

    I(t, s) = Σ_j w_{t,j} · ReLU(q_{t,j} · k_s)           for all earlier s
    C_t     = the k visible keys s of the largest I(t, s)
    y_t     = attention of query t to the keys in C_t alone

ReLU drops negative products: a head says how well a key matches, and nothing of keys that do not; w says how
much this head counts for the token. Where no more than k keys are visible, C_t is all of them, and nothing is
left out.

DeepSeek-V3.2 was trained in two steps. First attention stays dense, and the indexer alone learns what
attention attends to: its softmax over I(t, ·) is trained towards the mean of the heads' probabilities. Then
k = 2048, and the model learns to do with what is left. The indexer still looks at all keys, but with J · I =
64 · 128 multiplications in 8 bits for each, where absorbed latent attention takes 128 heads of 1088: hence
its name, lightning indexer. Attention itself then costs the same for every token of a text, however long.
DeepSeek-AI 2025, arXiv:2512.02556.

The choice has no gradient and is not smooth: a key is attended to or not. Of keys with the same score, such
as the 0 of keys that match no head, the earlier ones are taken.

``sparse_latent_attention`` is the definition: all other keys get the weight 0.

``gathered_latent_attention`` collects the k latents of each query and never looks at the others, in the
absorbed form of kernels/latent_attention.py. That is k (R + K_r) numbers for each query, so that it is for
one new token; many queries together have most keys in their choices.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.latent_attention import absorbed, latent_attention
from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.kernels.softmax import softmax


def index_scores(q: NDArray, keys: NDArray, weights: NDArray) -> NDArray:
    """Score each key for each query: I(t, s).

    q        (B, J, T, I)
    keys     (B, 1, S, I)
    weights  w, (B, J, T)

    Returns (B, T, S).

    >>> q = np.array([[[[1.0]], [[-1.0]]]])  # two heads: positive keys match one, negative keys the other
    >>> keys, weights = np.array([[[[3.0], [-5.0], [0.0]]]]), np.array([[[1.0], [0.5]]])
    >>> index_scores(q, keys, weights).tolist()
    [[[3.0, 2.5, 0.0]]]
    """
    matches = np.maximum(q @ keys.swapaxes(-1, -2), 0)  # (B, J, T, S)
    return np.sum(weights[..., None] * matches, axis=1)


def best_keys(scores: NDArray, mask: Mask, k: int) -> NDArray[np.intp]:
    """Return the indices of the k best keys that each query may attend to.

    scores  (B, T, S)
    mask    which keys each query may attend to at all
    k       at most S

    Returns (B, T, k), the best first; −1 where a query has fewer than k visible keys.

    >>> mask = Mask(np.arange(1, 3), np.arange(3))  # two queries, at positions 1 and 2
    >>> best_keys(np.array([[[4, 5, 9], [4, 5, 9]]]), mask, 2).tolist()
    [[[1, 0], [2, 1]]]
    """
    shown = visible(mask)
    shown = np.broadcast_to(shown if shown.ndim == 2 else shown[:, 0], scores.shape)
    order = np.argsort(np.where(shown, -scores, np.inf), axis=-1, kind="stable")[..., :k]
    return np.where(np.take_along_axis(shown, order, axis=-1), order, -1)


def only_chosen(chosen: NDArray[np.integer], keys: int) -> NDArray[np.float32]:
    """Write a choice as what is added to scores: 0 for the chosen keys, −∞ for the others.

    chosen  (B, T, k), −1 for none
    keys    S

    Returns (B, 1, T, S), for all heads alike.

    >>> only_chosen(np.array([[[2, -1]]]), 3).tolist()
    [[[[-inf, -inf, 0.0]]]]
    """
    is_chosen = np.zeros((*chosen.shape[:-1], keys + 1), dtype=bool)  # one more place, for what is none
    np.put_along_axis(is_chosen, chosen % (keys + 1), True, axis=-1)
    return np.where(is_chosen[:, None, :, :keys], np.float32(0), np.float32(-np.inf))


def sparse_latent_attention(
    q: NDArray,
    memory: NDArray,
    up_k: NDArray,
    up_v: NDArray,
    mask: Mask,
    chosen: NDArray[np.integer],
    *,
    scale: float,
) -> NDArray:
    """Attend to chosen keys alone: ``latent_attention``, in which the others have the weight 0.

    q           (B, H, T, K + K_r)
    memory      (B, 1, S, R + K_r)
    up_k, up_v  (H, R, K), (H, R, K_v)
    mask        which keys each query may attend to
    chosen      (B, T, k), the indices of those that it does attend to; −1 for none
    scale       what the products of queries and keys are multiplied by

    Returns (B, H, T, K_v).

    >>> memory = np.array([[[[0.0, 0], [0, 4], [9, 9]]]])  # three tokens: R = 2, K_r = 0
    >>> q, up_k, up_v = np.array([[[[1.0]]]]), np.array([[[1.0], [0]]]), np.array([[[0.0], [1]]])
    >>> mask, chosen = Mask(np.array([2]), np.arange(3)), np.array([[[0, 1]]])
    >>> sparse_latent_attention(q, memory, up_k, up_v, mask, chosen, scale=1.0).ravel().tolist()
    [2.0]
    """
    bias = only_chosen(chosen, memory.shape[-2])
    return latent_attention(q, memory, up_k, up_v, mask, scale=scale, bias=bias)


def gathered_latent_attention(
    q: NDArray,
    memory: NDArray,
    up_k: NDArray,
    up_v: NDArray,
    mask: Mask,
    chosen: NDArray[np.integer],
    *,
    scale: float,
) -> NDArray:
    """Compute ``sparse_latent_attention``, with the same arguments, from the chosen latents alone.

    >>> memory = np.array([[[[0.0, 0], [0, 4], [9, 9]]]])
    >>> q, up_k, up_v = np.array([[[[1.0]]]]), np.array([[[1.0], [0]]]), np.array([[[0.0], [1]]])
    >>> mask, chosen = Mask(np.array([2]), np.arange(3)), np.array([[[0, 1]]])
    >>> gathered_latent_attention(q, memory, up_k, up_v, mask, chosen, scale=1.0).ravel().tolist()
    [2.0]
    """
    rows = np.arange(len(memory))[:, None, None]
    picked = memory[rows, 0, chosen]  # (B, T, k, R + K_r); those of −1 are hidden below
    queries = absorbed(q, up_k).swapaxes(1, 2) * q.dtype.type(scale)  # (B, T, H, R + K_r)
    scores = queries @ picked.swapaxes(-1, -2)  # (B, T, H, k)
    probabilities = softmax(np.where(chosen[:, :, None] >= 0, scores, scores.dtype.type(-np.inf)))
    mean = probabilities @ picked[..., : up_k.shape[1]]  # (B, T, H, R)
    return mean.swapaxes(1, 2) @ up_v
