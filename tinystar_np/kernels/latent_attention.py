"""Multi-head latent attention: keys and values of all heads are computed from one cached vector per token.

What limits long texts is what attention must cache of each token: H·(K + K_v) numbers in every layer. Grouped
queries have fewer heads of keys and values. Latent attention has all heads, and caches what they are computed
from: a latent vector c of R numbers, into which the token is compressed.

    c_s = norm(x_s W_down)          k_s = c_s W_uk          v_s = c_s W_uv          W_uk, W_uv for each head

**Positions.** Rotary positions cannot go into these keys. A key that is rotated by its position is no longer
the same linear map of c for every token, which the second form below needs. So each token has one more key r
of K_r numbers, common to all heads, which alone is rotated, and each query a second part q_r for it:

    score(t, s) = scale · (q_t · k_s + q_r,t · r_s)

The cache holds (c, r), R + K_r numbers per token: in DeepSeek-V2 512 + 64 for 128 heads, whose keys and
values would be 32768. Liu et al. 2024, arXiv:2405.04434.

``latent_attention`` is the definition: ordinary attention to the keys and values of every head, computed from
all latents.

``absorbed_latent_attention`` never computes them. The matrices move to the other side of the sums:

    q · (c_s W_uk) = (q W_ukᵀ) · c_s          Σ_s p_s (c_s W_uv) = (Σ_s p_s c_s) W_uv

The query is mapped into the space of the latents, and the mean of the latents back out of it. Between the two
all heads share one key, (c, r), and one value, c: multi-query attention with heads of width R + K_r.

Multiplications per head, for T queries and S keys:

    expanded     S · R(K + K_v)  +  T·S · (K + K_r + K_v)
    absorbed     T · R(K + K_v)  +  T·S · (2R + K_r)

For one new token the expanded form computes the keys and values of the whole text again, R(K + K_v) for each
earlier token, 131072 in DeepSeek-V2, where the absorbed form takes 2R + K_r = 1088. For a prompt, S = T, the
first terms are equal, and the wider heads of the absorbed form cost 1088 per pair of query and key where the
others cost 320. Late in a long text both cost the same for T = R(K + K_v) / (2R − K − K_v) new tokens, 171
there. ``absorbing_is_cheaper`` compares the two lines.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.masks import Mask


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
    """Attend to the keys and values computed from the latents, by the definition.

    q       (..., H, T, K + K_r), the part for the keys from the latents and, after it, the rotated part
    memory  (..., 1, S, R + K_r), each token's latent and, after it, its rotated key
    up_k    W_uk, (H, R, K)
    up_v    W_uv, (H, R, K_v)
    mask    which keys each query may attend to; None for all
    scale   what the products of queries and keys are multiplied by
    bias    added to the scaled scores, as in ``attention``; None for nothing

    Returns (..., H, T, K_v).

    >>> memory = np.array([[[0, 0, 0], [np.log(3), 4, 0]]])  # two tokens: R = 2, K_r = 1
    >>> up_k, up_v = np.array([[[1], [0]]]), np.array([[[0], [1]]])  # keys 0 and log(3), values 0 and 4
    >>> latent_attention(np.array([[[1.0, 0.0]]]), memory, up_k, up_v, None, scale=1.0).round(6).tolist()
    [[[3.0]]]
    """
    keys, values = expanded(memory, up_k, up_v)
    return attention(q, keys, values, mask, scale=scale, bias=bias)


def absorbed_latent_attention(
    q: NDArray,
    memory: NDArray,
    up_k: NDArray,
    up_v: NDArray,
    mask: Mask | None,
    *,
    scale: float,
    bias: NDArray | None = None,
) -> NDArray:
    """Attend to the latents themselves: ``latent_attention`` with the matrices moved; arguments as there.

    >>> memory = np.array([[[0, 0, 0], [np.log(3), 4, 0]]])
    >>> q, up_k, up_v = np.array([[[1.0, 0.0]]]), np.array([[[1], [0]]]), np.array([[[0], [1]]])
    >>> absorbed_latent_attention(q, memory, up_k, up_v, None, scale=1.0).round(6).tolist()
    [[[3.0]]]
    """
    latents = memory[..., : up_k.shape[1]]
    mean = attention(absorbed(q, up_k), memory, latents, mask, scale=scale, bias=bias)  # (..., H, T, R)
    return mean @ up_v


def expanded(memory: NDArray, up_k: NDArray, up_v: NDArray) -> tuple[NDArray, NDArray]:
    """Compute all keys and values: (..., 1, S, R + K_r) → (..., H, S, K + K_r), (..., H, S, K_v).

    >>> up_k, up_v = np.array([[[1], [0]]]), np.array([[[0], [1]]])
    >>> [made.tolist() for made in expanded(np.array([[[5, 7, 9]]]), up_k, up_v)]  # rotated key 9
    [[[[5, 9]]], [[[7]]]]
    """
    R = up_k.shape[1]
    latents, rotated = memory[..., :R], memory[..., R:]  # (..., 1, S, R), (..., 1, S, K_r)
    keys = latents @ up_k  # (..., H, S, K)
    rotated = np.broadcast_to(rotated, (*keys.shape[:-1], rotated.shape[-1]))
    return np.concatenate((keys, rotated), axis=-1), latents @ up_v


def absorbed(q: NDArray, up_k: NDArray) -> NDArray:
    """Map queries into the space of the latents: (..., H, T, K + K_r) → (..., H, T, R + K_r).

    >>> absorbed(np.array([[[2, 9]]]), np.array([[[1], [10]]])).tolist()
    [[[2, 20, 9]]]
    """
    K = up_k.shape[-1]
    return np.concatenate((q[..., :K] @ up_k.swapaxes(-1, -2), q[..., K:]), axis=-1)


def absorbing_is_cheaper(queries: int, keys: int, up_k: NDArray, up_v: NDArray) -> bool:
    """Say whether the absorbed form takes fewer multiplications, or as many, for T queries and S keys.

    >>> up = np.zeros((1, 512, 128))  # DeepSeek-V2's sizes
    >>> [absorbing_is_cheaper(T, 1_000_000, up, up) for T in (1, 170, 171)]
    [True, True, False]
    """
    _, R, K = up_k.shape
    made = R * (K + up_v.shape[-1])  # for one token's key and value
    wider = 2 * R - K - up_v.shape[-1]  # by how much a pair of query and key costs more
    return queries * keys * wider <= (keys - queries) * made
