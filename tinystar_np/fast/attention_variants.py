"""Attention with relative positions, and latent attention."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.attention_forms import (
    QUERY_BLOCK,
    attention,
    attention_probabilities,
    attention_scores,
    in_parts,
)
from tinystar_np.fast.attention_parts import Reach, parts_of
from tinystar_np.fast.elementwise import softmax
from tinystar_np.kernels.attention import attention_mean
from tinystar_np.kernels.latent_attention import absorbing_is_cheaper
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.relative_positions import relative_mean, relative_scores, sums_by_index


def relative_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    mask: Mask,
    key_vectors: NDArray,
    value_vectors: NDArray,
    *,
    scale: float,
    bias: NDArray | None = None,
) -> NDArray:
    """Compute relative attention: (B, H, T, K), (B, G, S, K), (B, G, S, K_v) → (B, H, T, K_v)."""
    parts = parts_of(q, k, mask)
    if parts is None:
        scores = attention_scores(q, k, scale=scale, bias=bias)
        scores += relative_scores(q, key_vectors, mask, scale=scale)
        probabilities = attention_probabilities(scores, mask)
        y = attention_mean(probabilities, v)
        y += relative_mean(probabilities, value_vectors, mask)
        return y

    def form(heads: slice, q: NDArray, k: NDArray, v: NDArray, reach: Reach, bias: NDArray | None) -> NDArray:
        H, T, _ = q.shape
        out = np.empty_like(q, shape=(H, T, v.shape[-1]))
        for start in range(0, T, QUERY_BLOCK):
            places = np.arange(start, min(start + QUERY_BLOCK, T)) + reach.offset
            block = slice(start, start + len(places))
            some = slice(max(places[0] - reach.before, 0), min(places[-1] + reach.after + 1, k.shape[1]))
            distance = np.arange(some.start, some.stop) - places[:, None]
            hidden = (distance > reach.after) | (distance < -reach.before)
            for h in range(H):
                g = h // (H // len(k))
                own = None
                if bias is not None:
                    own = (bias[h] if bias.shape[1] == 1 else bias[h, block])[:, some]
                queries = q[h, block] * q.dtype.type(scale)
                out[h, block] = _attend_by_distance(
                    queries, k[g, some], v[g, some], key_vectors, value_vectors, own, distance, hidden
                )
        return out

    return in_parts(form, parts, q, k, v, bias)


def _attend_by_distance(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    key_vectors: NDArray,
    value_vectors: NDArray,
    bias: NDArray | None,
    distance: NDArray[np.integer],
    hidden: NDArray[np.bool_],
) -> NDArray:
    """Compute attention for one block of scaled queries of one head: (T, K), (S, K), (T, S) → (T, K_v).

    Keys far before the block all count as distance −C, those far after it as C: only between them distances
    differ, and only there each score is looked up by itself.
    """
    C = len(key_vectors) // 2
    scores = q @ k.T
    by_distance = q @ key_vectors.T  # (T, 2C + 1)
    start = int(np.count_nonzero(distance[0] <= -C))
    stop = max(start, len(k) - int(np.count_nonzero(distance[-1] >= C)))
    index = np.clip(distance[:, start:stop], -C, C) + C
    scores[:, :start] += by_distance[:, :1]
    scores[:, start:stop] += np.take_along_axis(by_distance, index, axis=-1)
    scores[:, stop:] += by_distance[:, -1:]
    if bias is not None:
        scores += bias
    np.copyto(scores, -np.inf, where=hidden)
    probabilities = softmax(scores)
    sums = sums_by_index(probabilities[:, start:stop], index, len(value_vectors))
    sums[:, 0] += probabilities[:, :start].sum(axis=-1)
    sums[:, -1] += probabilities[:, stop:].sum(axis=-1)
    return probabilities @ v + sums @ value_vectors


def latent_attention(
    q: NDArray,
    memory: NDArray,
    up_k: NDArray,
    up_v: NDArray,
    mask: Mask | None,
    *,
    scale: float,
    bias: NDArray | None = None,
) -> NDArray:
    """Compute latent attention in the form of fewer multiplications: (B, H, T, K + K_r) → (B, H, T, K_v)."""
    _, R, K = up_k.shape
    rest = memory.shape[-1] - R  # K_r
    latents = memory[..., :R]
    if absorbing_is_cheaper(q.shape[-2], memory.shape[-2], up_k, up_v):
        absorbed = np.empty((*q.shape[:-1], R + rest), dtype=q.dtype)
        np.matmul(q[..., :K], up_k.swapaxes(-1, -2), out=absorbed[..., :R])
        absorbed[..., R:] = q[..., K:]
        return attention(absorbed, memory, latents, mask, scale=scale, bias=bias) @ up_v
    keys = np.empty((*memory.shape[:-3], len(up_k), memory.shape[-2], K + rest), dtype=memory.dtype)
    np.matmul(latents, up_k, out=keys[..., :K])
    keys[..., K:] = memory[..., R:]
    return attention(q, keys, latents @ up_v, mask, scale=scale, bias=bias)
