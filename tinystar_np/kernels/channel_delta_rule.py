"""The delta rule with a decay for every channel (Kimi Delta Attention).

In the gated delta rule (kernels/delta_rule.py) all of a head's state S (K, K_v) decays by one number per
token. Here each of the K channels of keys has a decay of its own, and so each row of S: a head can keep what
stands under some channels for the whole text and let go of others within a few tokens.

    S'  = diag(e^{g_t}) S_{t−1}                   g_t ≤ 0, K numbers
    u_t = β_t (v_t − S'ᵀ k_t)                     0 ≤ β ≤ 1
    S_t = S' + k_t u_tᵀ
    y_t = S_tᵀ q_t

Decays by channel are gated linear attention's (Yang et al. 2023, arXiv:2312.06635); with the delta rule, Kimi
Team 2025, arXiv:2510.26692. Rotations say how far away a key is by turning each pair at a speed of its own;
decays say it by fading each channel at its own: Kimi Linear's attention has no positions at all.

``channel_delta_rule`` is this, token by token.

``chunked_channel_delta_rule`` takes L tokens at once, as in kernels/delta_rule.py. With a_t = g_1 + … + g_t,
now a vector, products of keys and of queries with keys carry the decay between the two tokens inside:

    (k_t, k_s) = Σ_i k_{t,i} k_{s,i} e^{a_{t,i} − a_{s,i}}                 s ≤ t

    u_t + Σ_{s < t} β_t (k_t, k_s) u_s  =  β_t (v_t − S₀ᵀ (e^{a_t} ∘ k_t))

As a product of matrices, (e^a ∘ K)(e^{−a} ∘ K)ᵀ, these would overflow: e^{−a} grows without bound. So the
differences a_t − a_s, which are at most 0, are taken first: L²·K numbers, which is why chunks are short here.
"""

import numpy as np
from numpy.typing import NDArray

CHUNK = 16


def channel_delta_rule(
    q: NDArray, k: NDArray, v: NDArray, g: NDArray, beta: NDArray, state: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Apply the rule by the definition, one token after the other.

    q, k   (batch, T, H, K)
    v      (batch, T, H, K_v)
    g      (batch, T, H, K), at most 0
    beta   (batch, T, H), 0 to 1
    state  (batch, H, K, K_v), S after the tokens that came before; None for zeros

    Returns y (batch, T, H, K_v) and the state after the last token (batch, H, K, K_v), both new arrays.

    >>> k = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # one token for each of two channels
    >>> q, v = np.ones((1, 2, 1, 2)), np.array([4.0, 8.0]).reshape(1, 2, 1, 1)
    >>> g = np.log(np.array([0.5, 1.0])) * np.ones((1, 2, 1, 2))  # the first channel is halved each time
    >>> y, S = channel_delta_rule(q, k, v, g, np.ones((1, 2, 1)))
    >>> y.ravel().round(6).tolist(), S.ravel().round(6).tolist()  # 4, and then 2 + 8
    ([4.0, 10.0], [2.0, 8.0])
    """
    batch, T, H, K_v = v.shape
    S = np.zeros((batch, H, k.shape[-1], K_v), dtype=v.dtype) if state is None else state
    y = np.empty(v.shape, dtype=v.dtype)
    for t in range(T):
        S = S * np.exp(g[:, t, :, :, None])
        missing = v[:, t] - (k[:, t, :, None] @ S)[:, :, 0]  # (batch, H, K_v)
        S += k[:, t, :, :, None] * (beta[:, t, :, None] * missing)[:, :, None]
        y[:, t] = (q[:, t, :, None] @ S)[:, :, 0]
    return y, S


def chunked_channel_delta_rule(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    g: NDArray,
    beta: NDArray,
    state: NDArray | None = None,
    chunk_size: int = CHUNK,
) -> tuple[NDArray, NDArray]:
    """Compute ``channel_delta_rule``, with the same arguments, ``chunk_size`` tokens at a time.

    >>> k = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)
    >>> q, v = np.ones((1, 2, 1, 2)), np.array([4.0, 8.0]).reshape(1, 2, 1, 1)
    >>> g = np.log(np.array([0.5, 1.0])) * np.ones((1, 2, 1, 2))
    >>> chunked_channel_delta_rule(q, k, v, g, np.ones((1, 2, 1)))[0].ravel().round(6).tolist()
    [4.0, 10.0]
    """
    batch, T, H, K_v = v.shape
    S = np.zeros((batch, H, k.shape[-1], K_v), dtype=v.dtype) if state is None else state
    y = np.empty(v.shape, dtype=v.dtype)
    for start in range(0, T, chunk_size):
        some = slice(start, start + chunk_size)
        queries, keys, values, decays, shares = (x[:, some].swapaxes(1, 2) for x in (q, k, v, g, beta))
        read, S = _one_chunk(queries, keys, values, decays, shares, S)  # (batch, H, L, …) each
        y[:, some] = read.swapaxes(1, 2)
    return y, S


def _one_chunk(
    q: NDArray, k: NDArray, v: NDArray, g: NDArray, beta: NDArray, S: NDArray
) -> tuple[NDArray, NDArray]:
    """Read and write L tokens: q, k and g (..., L, K), v (..., L, K_v), beta (..., L).

    Returns y (..., L, K_v) and the new S (..., K, K_v).
    """
    L = k.shape[-2]
    sums = np.cumsum(g, axis=-2, dtype=np.float64)  # a
    apart = np.minimum(sums[..., :, None, :] - sums[..., None, :, :], 0).astype(g.dtype)  # above 0: s > t
    faded = np.exp(apart) * k[..., None, :, :]  # (..., t, s, K): each key as a later token meets it
    of_keys = np.tril((faded @ k[..., None])[..., 0], -1)  # (k_t, k_s)
    of_queries = np.tril((faded @ q[..., None])[..., 0])
    since_start = np.exp(sums.astype(g.dtype))
    share = beta[..., None]
    u = np.linalg.solve(np.eye(L, dtype=k.dtype) + share * of_keys, share * (v - (since_start * k) @ S))
    y = (since_start * q) @ S + of_queries @ u
    return y, since_start[..., -1, :, None] * S + faded[..., -1, :, :].swapaxes(-1, -2) @ u
