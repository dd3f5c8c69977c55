"""Patches of bytes: where they end, one vector for each, and attention between a patch and its bytes.

    H_t      = −Σ_b p_t(b) log p_t(b)      entropy of what a small model of bytes expects after byte t
    ends     = H_t > θ                     byte t is the last of its patch; the first byte is one by itself
    q_j      = rows of max_(t in j) h_t W  k queries of patch j, from the largest of each number
    y_j      = softmax(scale · q_j k_tᵀ) v_t    over the bytes t of patch j alone

A model of bytes reads four times as many symbols as one of tokens, most of which were never in doubt: after
"elepha" comes "nt". The Byte Latent Transformer lets a small model of bytes say how much in doubt the next
byte is, and begins a patch where it is more than θ: the large model then takes one step per patch, and its
steps are spent where something is decided. There is no vocabulary, and no tokenizer that was learned apart.

Whether byte t ends its patch is known from the bytes up to t. So a patch is never changed by what comes
after it, and bytes can be read one by one. Byte t, from which byte t + 1 is predicted, attends to the last
patch that has ended by then: its own if it ends it, otherwise the one before. So no byte sees a later one.

A patch has few bytes and a text has many patches; a mask of all patches and all bytes would be almost empty.
Here each byte is compared with one patch only: work and memory grow with the text, and not with its square.
The bytes of all patches stand in one row, and sums over a patch are sums between two borders (``reduceat``).

Pagnoni et al. 2024, arXiv:2412.09871, sections 2.3, 3.2.2 and 3.3.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import log_softmax, softmax


def next_byte_entropy(logits: NDArray) -> NDArray:
    """Compute the entropy of the distribution that logits stand for, in nats: (..., V) → (...).

    >>> next_byte_entropy(np.array([[0.0, 0.0], [0.0, -1000.0]])).round(3).tolist()  # log 2, and no doubt
    [0.693, 0.0]
    """
    logs = log_softmax(logits)
    entropy: NDArray = (np.exp(logs) * -logs).sum(axis=-1)
    return entropy


def ends_of_patches(entropy: NDArray, positions: NDArray[np.integer], threshold: float) -> NDArray[np.bool_]:
    """Say which bytes are the last of their patch: those after which the next byte is in doubt.

    entropy    (B, T), of the byte after each
    positions  (B, T), of the bytes in their texts: the first of all is a patch by itself
    threshold  θ

    Returns (B, T).

    >>> ends_of_patches(np.array([[0.1, 0.1, 2.0, 0.1]]), np.arange(4)[None], 1.3).tolist()
    [[True, False, True, False]]
    """
    return (entropy > threshold) | (positions == 0)


def largest_of_patches(x: NDArray, starts: NDArray[np.integer]) -> NDArray:
    """Take the largest value of each number among the bytes of each patch.

    x       (M, D), the bytes of all patches in a row
    starts  (N,), where in that row each patch begins, the first at 0; none is empty

    Returns (N, D).

    >>> largest_of_patches(np.array([[1, 5], [2, 4], [0, 9]]), np.array([0, 2])).tolist()
    [[2, 5], [0, 9]]
    """
    largest: NDArray = np.maximum.reduceat(x, starts, axis=0)
    return largest


def patches_attend_to_bytes(
    q: NDArray, k: NDArray, v: NDArray, starts: NDArray[np.integer], scale: float
) -> NDArray:
    """Let the queries of each patch attend to the bytes of that patch.

    q       (N, k, H, K): k queries for each patch
    k, v    (M, G, K), of the bytes of all patches in a row; G divides H
    starts  (N,), where in that row each patch begins, the first at 0; none is empty
    scale   what the products q·k are multiplied by

    Returns (N, k, H, K).

    >>> k = np.log([1.0, 3.0, 5.0]).reshape(3, 1, 1)  # two bytes with weights 1/4 and 3/4, then one alone
    >>> v = np.array([0.0, 4.0, 7.0]).reshape(3, 1, 1)
    >>> patches_attend_to_bytes(np.ones((2, 1, 1, 1)), k, v, np.array([0, 2]), 1.0).ravel().round(6).tolist()
    [3.0, 7.0]
    """
    N, queries, H, K = q.shape
    M, G, _ = k.shape
    patch = np.repeat(np.arange(N), np.diff(starts, append=M))  # (M,): of each byte
    grouped = (q * q.dtype.type(scale)).reshape(N, queries, G, H // G, K)
    scores = np.einsum("mqgrk,mgk->mqgr", grouped[patch], k)
    weights = np.exp(scores - np.maximum.reduceat(scores, starts, axis=0)[patch])
    totals = np.add.reduceat(weights, starts, axis=0)
    sums = np.add.reduceat(weights[..., None] * v[:, None, :, None], starts, axis=0)
    return (sums / totals[..., None]).reshape(q.shape)


def bytes_attend_to_patches(
    q: NDArray, k: NDArray, v: NDArray, patch: NDArray[np.integer], scale: float
) -> NDArray:
    """Let each byte attend to the k vectors of one patch.

    q      (B, T, H, K)
    k, v   (B, N, k, G, K): k keys and values for each patch; G divides H
    patch  (B, T), the number of each byte's patch
    scale  what the products q·k are multiplied by

    Returns (B, T, H, K).

    >>> k = np.log([[1.0, 3.0], [1.0, 1.0]]).reshape(1, 2, 2, 1, 1)
    >>> v = np.array([[0.0, 4.0], [5.0, 7.0]]).reshape(1, 2, 2, 1, 1)
    >>> bytes_attend_to_patches(np.ones((1, 3, 1, 1)), k, v, np.array([[0, 0, 1]]), 1.0).ravel().tolist()
    [3.0, 3.0, 6.0]
    """
    B, T, H, K = q.shape
    G = k.shape[3]
    rows = np.arange(B)[:, None]
    grouped = (q * q.dtype.type(scale)).reshape(B, T, G, H // G, K)
    scores = np.einsum("btgrk,btqgk->btgrq", grouped, k[rows, patch])
    return np.einsum("btgrq,btqgk->btgrk", softmax(scores), v[rows, patch]).reshape(q.shape)
