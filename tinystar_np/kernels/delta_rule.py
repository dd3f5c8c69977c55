"""The gated delta rule: linear attention that replaces what it stored under a key instead of adding to it.

Linear attention keeps a matrix S (K, K_v) for each head and adds to it, for every token, its key times its
value; a query reads S. Values stored under similar keys add up. The delta rule first reads what S holds under
the key and adds only a share β of the difference to the new value; before that all of S decays by e^g:

    S'  = e^{g_t} S_{t−1}                         g_t ≤ 0
    u_t = β_t (v_t − S'ᵀ k_t)                     0 ≤ β ≤ 1, in some models 2
    S_t = S' + k_t u_tᵀ
    y_t = S_tᵀ q_t

With |k| = 1 and β = 1, S gives back v_t exactly when asked with k_t: one step of gradient descent on
½ ‖Sᵀ k − v‖². Widrow & Hoff 1960; Schlag et al. 2021, arXiv:2102.11174; with the gate g, Yang et al. 2024,
arXiv:2412.06464 (Gated DeltaNet).

``delta_rule`` is this. Token by token it reads and writes all of S.

``chunked_delta_rule`` takes L tokens at once. With a_t = g_1 + … + g_t, written out from the chunk's
beginning, S₀,

    S_t = e^{a_t} S₀ + Σ_{s ≤ t} e^{a_t − a_s} k_s u_sᵀ

and each u depends on the u before it:

    u_t + Σ_{s < t} β_t e^{a_t − a_s} (k_t · k_s) u_s  =  β_t (v_t − e^{a_t} S₀ᵀ k_t)

That is one system of L equations, (I + A) U = B, with A below the diagonal; once it is solved, all y and the
new S are matrix products, as in kernels/ssm.py. Yang et al. 2024, arXiv:2406.06484.

For a whole text S₀ = 0, and everything is one matrix, ``delta_matrix``: what each token takes of each value.
Unlike in attention and Mamba 2 an entry depends on the keys in between, which may have overwritten it.
"""

import numpy as np
from numpy.typing import NDArray

CHUNK = 64


def unit_vectors(x: NDArray, eps: float = 1e-6) -> NDArray:
    """Scale each vector of the last axis to length 1: x / √(Σ x² + eps).

    x  (..., K)

    Returns (..., K) in x's type, a new array.

    >>> unit_vectors(np.array([3.0, 4.0])).round(6).tolist()
    [0.6, 0.8]
    """
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + x.dtype.type(eps))


def delta_rule(
    q: NDArray, k: NDArray, v: NDArray, g: NDArray, beta: NDArray, state: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Apply the gated delta rule by the definition, one token after the other.

    q, k   (batch, T, G, K), where G divides H and neighbouring heads share queries and keys
    v      (batch, T, H, K_v)
    g      (batch, T, H), at most 0
    beta   (batch, T, H), 0 to 1, or to 2 where what is stored may change its sign
    state  (batch, H, K, K_v), S after the tokens that came before; None for zeros

    Returns y (batch, T, H, K_v) and the state after the last token (batch, H, K, K_v), both new arrays.

    >>> k = np.ones((1, 2, 1, 1))  # two tokens of the same key, 1, which are their queries as well
    >>> v = np.array([5.0, 7.0]).reshape(1, 2, 1, 1)
    >>> y, S = delta_rule(k, k, v, g=np.zeros((1, 2, 1)), beta=np.ones((1, 2, 1)))
    >>> y.ravel().tolist()  # 7 has replaced 5; added to it they would be 12
    [5.0, 7.0]
    """
    batch, T, H, K_v = v.shape
    G, K = k.shape[2:]
    R = H // G  # heads of a group
    if state is None:
        state = np.zeros((batch, H, K, K_v), dtype=v.dtype)
    S = state.reshape(batch, G, R, K, K_v)
    y = np.empty(v.shape, dtype=v.dtype)
    for t in range(T):
        S = S * np.exp(g[:, t]).reshape(batch, G, R, 1, 1)
        key, query = k[:, t, :, None, None, :], q[:, t, :, None, None, :]  # (batch, G, 1, 1, K)
        missing = v[:, t].reshape(batch, G, R, 1, K_v) - key @ S
        S += key.swapaxes(-1, -2) * (beta[:, t].reshape(batch, G, R, 1, 1) * missing)
        y[:, t] = (query @ S).reshape(batch, H, K_v)
    return y, S.reshape(batch, H, K, K_v)


def delta_matrix(q: NDArray, k: NDArray, g: NDArray, beta: NDArray) -> NDArray:
    """Write the rule from its beginning out as a matrix: what each token takes from each earlier one's value.

        M = (Q Kᵀ ∘ decay) (I + A)⁻¹ diag(β)            decay[t, s] = e^{a_t − a_s} for s ≤ t, otherwise 0

    Arguments as in ``delta_rule``.

    Returns (batch, H, T, T) in q's type, with y_t = Σ_s M[t, s] v_s.

    >>> k, half = np.ones((1, 2, 1, 1)), np.full((1, 2, 1), 0.5)  # S halves, and is written by halves
    >>> delta_matrix(k, k, np.log(half), half)[0, 0].round(6).tolist()
    [[0.5, 0.0], [0.125, 0.5]]
    """
    batch, T, G, _ = k.shape
    H = g.shape[-1]
    queries, keys = (x.swapaxes(1, 2)[:, :, None] for x in (q, k))  # (batch, G, 1, T, K)
    gates, shares = (x.swapaxes(1, 2).reshape(batch, G, H // G, T) for x in (g, beta))
    faded, A = _within(keys, gates, shares)
    written = np.linalg.solve(np.eye(T, dtype=A.dtype) + A, np.eye(T, dtype=A.dtype) * shares[..., None])
    # Triangular, as I + A is. Where β is above 1, solve exchanges rows, and rounds above the diagonal too.
    written = np.tril(written)
    return ((faded * (queries @ keys.swapaxes(-1, -2))) @ written).reshape(batch, H, T, T)


def chunked_delta_rule(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    g: NDArray,
    beta: NDArray,
    state: NDArray | None = None,
    chunk_size: int = CHUNK,
) -> tuple[NDArray, NDArray]:
    """Compute ``delta_rule``, with the same arguments, ``chunk_size`` tokens at a time.

    >>> k, half = np.ones((1, 2, 1, 1)), np.full((1, 2, 1), 0.5)  # as in delta_matrix
    >>> y, S = chunked_delta_rule(k, k, 8 * k, np.log(half), half)
    >>> y.ravel().round(6).tolist()  # 0.5 · 8, then 0.125 · 8 + 0.5 · 8
    [4.0, 5.0]
    """
    batch, T, H, K_v = v.shape
    G, K = k.shape[2:]
    R = H // G
    S = np.zeros((batch, G, R, K, K_v), dtype=v.dtype)
    if state is not None:
        S += state.reshape(S.shape)
    y = np.empty(v.shape, dtype=v.dtype)
    for start in range(0, T, chunk_size):
        chunk = slice(start, min(start + chunk_size, T))
        L = chunk.stop - start
        queries, keys = (x[:, chunk].transpose(0, 2, 1, 3)[:, :, None] for x in (q, k))  # (batch, G, 1, L, K)
        values = v[:, chunk].transpose(0, 2, 1, 3).reshape(batch, G, R, L, K_v)
        gates, shares = (x[:, chunk].swapaxes(1, 2).reshape(batch, G, R, L) for x in (g, beta))
        read, S = _one_chunk(queries, keys, values, gates, shares, S)
        y[:, chunk] = read.reshape(batch, H, L, K_v).swapaxes(1, 2)
    return y, S.reshape(batch, H, K, K_v)


def _one_chunk(
    q: NDArray, k: NDArray, v: NDArray, g: NDArray, beta: NDArray, S: NDArray
) -> tuple[NDArray, NDArray]:
    """Read and write L tokens: q and k (..., 1, L, K), v (..., R, L, K_v), g and beta (..., R, L).

    Returns y (..., R, L, K_v) and the new S (..., R, K, K_v).
    """
    L = g.shape[-1]
    since_start = np.exp(np.cumsum(g, axis=-1, dtype=np.float64).astype(g.dtype))[..., None]
    faded, A = _within(k, g, beta)
    keys = k.swapaxes(-1, -2)
    share = beta[..., None]
    u = np.linalg.solve(np.eye(L, dtype=A.dtype) + A, share * (v - since_start * (k @ S)))
    y = since_start * (q @ S)
    y += (faded * (q @ keys)) @ u
    to_end = faded[..., -1, :, None]  # the decay from each token to the chunk's end
    return y, since_start[..., -1:, :] * S + keys @ (to_end * u)


def _within(k: NDArray, g: NDArray, beta: NDArray) -> tuple[NDArray, NDArray]:
    """Compute what L tokens have to do with one another; arguments as in ``_one_chunk``.

    Returns the decays e^{a_t − a_s} and the matrix A of the system for u, (..., R, L, L) each.
    """
    sums = np.cumsum(g, axis=-1, dtype=np.float64)  # a
    apart = np.minimum(sums[..., :, None] - sums[..., None, :], 0).astype(g.dtype)  # above 0 only where s > t
    faded = np.tril(np.exp(apart))
    return faded, np.tril(beta[..., None] * faded * (k @ k.swapaxes(-1, -2)), -1)
