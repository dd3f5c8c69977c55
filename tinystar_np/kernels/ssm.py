"""The state-space model of Mamba 2, as a recurrence and as matrix products.

In Mamba 1 (kernels/selective_scan.py) every channel decays at N rates of its own. In Mamba 2 all P channels
of a head decay at one rate, the scalar A. The state of a head is a matrix h (P, N), scaled by one number per
token:

    h_t = exp(Δ_t A) h_{t−1} + Δ_t x_t B_tᵀ         x_t (P), B_t (N)
    y_t = h_t C_t + D x_t                           C_t (N)

The heads of a group share B and C, as grouped-query attention shares keys and values.

Written out, the output is a sum over all tokens so far, each decayed by every step since:

    y_t = Σ_{s ≤ t} (C_t · B_s) · exp(Δ_{s+1} A + … + Δ_t A) · Δ_s x_s  +  D x_t

That is attention without a softmax: C is the query, B the key, Δ x is the value, and the decay is the mask.
Read from left to right it is a recurrence with a state of fixed size; computed at once it is a product with a
T × T matrix. Dao & Gu 2024 call this duality, arXiv:2405.21060. ``ssm_matrix`` is that matrix.

``ssm_scan`` is the recurrence. For every token it reads and writes the whole state (H·P·N numbers, far more
than a token's H·P).

``chunked_ssm_scan`` is the other form (their section 6). It cuts the text into chunks of L tokens. Inside a
chunk it computes the sum above as a matrix product; earlier tokens enter through the state, which is read and
written once per chunk. Four products, all sums over tokens or over N:

    weights = (C Bᵀ) ∘ decay ∘ Δ                    (L, L) per head, lower triangle
    y       = weights x                             the chunk's own tokens
            + (C h) · decay since the chunk began   those before it
    h       = h · decay of the chunk + (Δ x · decay to its end)ᵀ B

A chunk costs L² · H exponentials and products for its weights and moves P · N · H numbers of state. Per token
their sum is least near L = √(P N), from 64 (P = 32, N = 128) to 90 (P = 64): hence CHUNK. At 256, which
configs ask for with graphics processors in mind, the same result takes twice as long.

Three things about rounding:

- The decay from s to t is the exponential of a difference of running sums. Where a chunk's decay is strong,
  the sums are large and their difference has few digits left, so the sums are kept in float64; there are only
  H per token, and the difference is rounded to float32.
- Above the diagonal the difference is positive and its exponential might overflow, which times 0 would be
  NaN. It is clipped to ±LIMIT first.
- The lower limit keeps weights at 1e-18 where they would fall below 1e-38. Such numbers (denormals) make no
  difference to the result, and processors multiply them a hundred times slower than others.
"""

import numpy as np
from numpy.typing import NDArray

CHUNK = 64
LIMIT = 41.0  # exp(−41) = 1.6e-18, exp(41) = 6e17: both, and their products, are ordinary float32 numbers


def ssm_scan(
    x: NDArray,
    dt: NDArray,
    A: NDArray,
    B: NDArray,
    C: NDArray,
    D: NDArray,
    state: NDArray | None = None,
) -> tuple[NDArray, NDArray]:
    """Run the recurrence, one token after the other: the definition.

    x      (batch, T, H, P)
    dt     (batch, T, H), Δ ≥ 0
    A      (H,), below 0
    B, C   (batch, T, G, N), where G divides H and neighbouring heads share a group
    D      (H,)
    state  (batch, H, P, N), h after the tokens that came before; None for zeros

    Returns y (batch, T, H, P) and the state after the last token (batch, H, P, N), both new arrays.

    >>> x, dt, ones = np.array([8.0, 1.0]).reshape(1, 2, 1, 1), np.ones((1, 2, 1)), np.ones((1, 2, 1, 1))
    >>> y, h = ssm_scan(x, dt, A=np.log([0.5]), B=ones, C=ones, D=np.ones(1))
    >>> y.ravel().round(6).tolist()  # h is 8, then 8/2 + 1 = 5; D x adds 8, then 1
    [16.0, 6.0]
    """
    batch, T, H, P = x.shape
    G, N = B.shape[2:]
    R = H // G  # heads of a group
    if state is None:
        state = np.zeros((batch, H, P, N), dtype=x.dtype)
    h = state.reshape(batch, G, R, P, N)
    y = np.empty(x.shape, dtype=x.dtype)
    for t in range(T):
        decay = np.exp(dt[:, t] * A)
        value = dt[:, t, :, None] * x[:, t]
        h = h * decay.reshape(batch, G, R, 1, 1)
        h += value.reshape(batch, G, R, P, 1) * B[:, t, :, None, None]
        read = h @ C[:, t, :, None, :, None]  # (batch, G, R, P, 1)
        y[:, t] = read.reshape(batch, H, P) + D[:, None] * x[:, t]
    return y, h.reshape(batch, H, P, N)


def ssm_matrix(dt: NDArray, A: NDArray, B: NDArray, C: NDArray, D: NDArray) -> NDArray:
    """Write the recurrence from its beginning out as a matrix: what each token takes from each earlier one.

        M[t, s] = (C_t · B_s) · exp(Δ_{s+1} A + … + Δ_t A) · Δ_s  for s ≤ t, and D more where s = t

    Arguments as in ``ssm_scan``.

    Returns (batch, H, T, T) in dt's type, with y_t = Σ_s M[t, s] x_s for each of a head's P channels.

    >>> dt, ones = np.ones((1, 2, 1)), np.ones((1, 2, 1, 1))
    >>> M = ssm_matrix(dt, A=np.log([0.5]), B=ones, C=ones, D=np.ones(1))[0, 0].round(6)
    >>> M.tolist(), (M @ [8.0, 1.0]).tolist()  # ssm_scan gives the same
    ([[2.0, 0.0], [0.5, 2.0]], [16.0, 6.0])
    """
    H, G = dt.shape[-1], B.shape[2]
    sums = np.cumsum(dt * A, axis=1, dtype=np.float64).swapaxes(1, 2)  # (batch, H, T)
    apart = np.minimum(sums[..., :, None] - sums[..., None, :], 0)  # above 0 only where s > t
    products = C.swapaxes(1, 2) @ B.transpose(0, 2, 3, 1)  # (batch, G, T, T): C_t · B_s
    weights = np.repeat(products, H // G, axis=1) * np.exp(apart) * dt.swapaxes(1, 2)[..., None, :]
    return np.asarray(np.tril(weights) + D[:, None, None] * np.eye(dt.shape[1]), dtype=dt.dtype)


def chunked_ssm_scan(
    x: NDArray,
    dt: NDArray,
    A: NDArray,
    B: NDArray,
    C: NDArray,
    D: NDArray,
    state: NDArray | None = None,
    chunk_size: int = CHUNK,
) -> tuple[NDArray, NDArray]:
    """Compute ``ssm_scan``, with the same arguments, ``chunk_size`` tokens at a time.

    Memory beyond the result is one chunk's weights of one row, H·L² numbers.

    >>> x, dt, ones = np.array([8.0, 1.0]).reshape(1, 2, 1, 1), np.ones((1, 2, 1)), np.ones((1, 2, 1, 1))
    >>> y, h = chunked_ssm_scan(x, dt, A=np.log([0.5]), B=ones, C=ones, D=np.ones(1), chunk_size=1)
    >>> y.ravel().round(6).tolist()
    [16.0, 6.0]
    """
    batch, T, H, P = x.shape
    L = max(min(chunk_size, T), 1)
    shape = (batch, H, P, B.shape[-1])
    h = np.zeros(shape, dtype=x.dtype) if state is None else np.array(state, order="C")
    y = np.empty(x.shape, dtype=x.dtype)
    weights = np.empty((H, L, L), dtype=x.dtype)
    for row in range(batch):
        for start in range(0, T, L):
            chunk = slice(start, min(start + L, T))
            n = chunk.stop - start
            _scan_chunk(
                x[row, chunk],
                dt[row, chunk],
                A,
                B[row, chunk].transpose(1, 0, 2),
                C[row, chunk].transpose(1, 0, 2),
                D,
                h[row],
                y[row, chunk],
                weights[:, :n, :n],
            )
    return y, h


def _scan_chunk(
    x: NDArray,
    dt: NDArray,
    A: NDArray,
    B: NDArray,
    C: NDArray,
    D: NDArray,
    h: NDArray,
    y: NDArray,
    weights: NDArray,
) -> None:
    """Compute one chunk of one row: x (L, H, P), dt (L, H), B and C (G, L, N).

    Overwrites h (H, P, N), the state before the chunk, with the state after it; y (L, H, P) with the
    result; and weights (H, L, L).
    """
    L, H, P = x.shape
    G, _, N = B.shape
    R = H // G
    heads_first = x.transpose(1, 0, 2)  # (H, L, P)

    # exp(a_l − a_s) · Δ_s as one exponential: exp(a_l − a_s + log Δ_s).
    sums = np.cumsum(dt * A, axis=0, dtype=np.float64).T  # (H, L): a_l, how much has decayed since the start
    steps = np.log(np.maximum(dt, dt.dtype.type(1e-30))).T
    np.subtract(sums[:, :, None], (sums - steps)[:, None, :], out=weights, casting="same_kind")
    np.clip(weights, -LIMIT, LIMIT, out=weights)
    np.exp(weights, out=weights)
    to_end = weights[:, -1, :].T[:, :, None] * x  # (L, H, P): Δ_s x_s, decayed to the chunk's end
    by_group = weights.reshape(G, R, L, L)
    by_group *= np.tril(C @ B.swapaxes(1, 2))[:, None]  # one product serves all heads of a group
    diagonal = np.arange(L)
    weights[:, diagonal, diagonal] += D[:, None]
    np.matmul(weights, heads_first, out=y.transpose(1, 0, 2))

    since_start = np.exp(np.maximum(sums, -LIMIT).astype(x.dtype))  # (H, L)
    before = (C @ h.reshape(G, R * P, N).swapaxes(1, 2)).reshape(G, L, R, P)
    before *= since_start.reshape(G, R, L).swapaxes(1, 2)[..., None]
    y_by_group = y.reshape(L, G, R, P)
    y_by_group += before.swapaxes(0, 1)

    by_head = h.reshape(H, P * N)
    by_head *= since_start[:, -1:]
    of_groups = h.reshape(G, R * P, N)
    of_groups += to_end.reshape(L, G, R * P).transpose(1, 2, 0) @ B
