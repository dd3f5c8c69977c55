"""Sparse attention for this machine: scores in blocks, and the form that fits the number of queries."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.attention_variants import latent_attention
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.sparse_attention import gathered_latent_attention, only_chosen

MOST_SCORES = 1 << 22
"""How many products of heads are held at once, 16 MiB: for a prompt of 4000 tokens all would take 4 GiB."""


def index_scores(q: NDArray, keys: NDArray, weights: NDArray) -> NDArray:
    """Score each key for each query, some queries at a time: (B, J, T, I), (B, 1, S, I) → (B, T, S)."""
    B, J, T, _ = q.shape
    S = keys.shape[-2]
    out = np.empty((B, T, S), dtype=q.dtype)
    transposed = keys.swapaxes(-1, -2)
    step = max(1, MOST_SCORES // (B * J * S))
    for start in range(0, T, step):
        some = slice(start, start + step)
        matches = q[:, :, some] @ transposed  # (B, J, t, S)
        np.maximum(matches, 0, out=matches)
        # Σ_j as products of (1, J) with (J, S), one for each query
        summed = weights[:, :, some].swapaxes(1, 2)[:, :, None] @ matches.swapaxes(1, 2)
        out[:, some] = summed[:, :, 0]
    return out


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
    """Attend to chosen keys alone: one query collects its latents, many go by the mask of their choices."""
    if q.shape[2] == 1:
        return gathered_latent_attention(q, memory, up_k, up_v, mask, chosen, scale=scale)
    B, H, T, _ = q.shape
    bias = np.broadcast_to(only_chosen(chosen, memory.shape[-2]), (B, H, T, memory.shape[-2]))
    return latent_attention(q, memory, up_k, up_v, mask, scale=scale, bias=bias)
