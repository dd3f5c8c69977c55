"""Lightning attention: linear attention with a constant decay for each head, a block of tokens at a time.

Softmax attention needs all earlier keys for every query. Without the softmax, and with no other function
around q·k, the sum over keys can be done before the query is known. A head keeps one matrix S (K, K_v), the
sum of all keys times their values, and a query reads it:

    S_t = λ S_{t−1} + k_t v_tᵀ                    λ = e^−m, m > 0 the head's slope
    y_t = S_tᵀ q_t

λ lets the head forget: a steep slope looks at the last few tokens, a flat one at nearly all. The slopes are
ALiBi's (kernels/alibi.py), 2^(−8h/H), and shrink with the layer: the first layers look near, the last far.
Katharopoulos et al. 2020, arXiv:2006.16236; the decay Qin et al. 2022, arXiv:2210.10340; RetNet (Sun et al.
2023, arXiv:2307.08621) has the same form.

``lightning_attention`` is this, token by token. For every token it reads and writes all of S.

Written out, it is attention with λ^(t−s) in place of the softmax, a T × T matrix, ``lightning_matrix``:

    y_t = Σ_{s ≤ t} λ^{t−s} (q_t · k_s) v_s

``blockwise_lightning_attention`` takes L tokens at once: those of a block see one another through this sum,
and what came before through S, which is read and written once per block. With i = 1 … L inside a block,

    Y = (Q Kᵀ ∘ Λ) V                               Λ[i, j] = λ^(i−j) for j ≤ i, otherwise 0
      + (λ^i q_i)ᵀ S                               the blocks before
    S = λ^L S + Σ_i λ^(L−i) k_i v_iᵀ

so that a text costs T·L·K instead of T²·K. All powers are at most 1: nothing overflows. Qin et al. 2024,
arXiv:2401.04658 (Lightning Attention-2); MiniMax-01, arXiv:2501.08313.

It is Mamba 2's recurrence (kernels/ssm.py) with a step of 1, with queries for C, keys for B and values for x:
there the decay depends on the token, here on the head alone, so that Λ is the same for every block.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK = 64


def lightning_slopes(heads: int, layer: int, layers: int) -> NDArray[np.float32]:
    """Return m of each head of a layer: (H,), 2^(−8h/H) for h = 1 … H, times a factor from 1 down to 1e-5.

    heads   H
    layer   its number, from 0
    layers  how many there are

    >>> [(1 / lightning_slopes(4, layer, 3)).round().tolist() for layer in (0, 1)]
    [[4.0, 16.0, 64.0, 256.0], [8.0, 32.0, 128.0, 512.0]]
    """
    factor = 1 - layer / (layers - 1 + 1e-5) + 1e-5
    return np.asarray(2.0 ** (-8 * np.arange(1, heads + 1) / heads) * factor, dtype=np.float32)


def lightning_attention(
    q: NDArray, k: NDArray, v: NDArray, slopes: NDArray, state: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Run the recurrence, one token after the other: the definition.

    q, k    (batch, T, H, K)
    v       (batch, T, H, K_v)
    slopes  (H,), m ≥ 0
    state   (batch, H, K, K_v), S after the tokens that came before; None for zeros

    Returns y (batch, T, H, K_v) and the state after the last token (batch, H, K, K_v), both new arrays.

    >>> ones, v = np.ones((1, 3, 1, 1)), np.array([8.0, 4.0, 1.0]).reshape(1, 3, 1, 1)
    >>> y, S = lightning_attention(ones, ones, v, np.log([2.0]))
    >>> y.ravel().round(6).tolist()  # 8, then 8/2 + 4, then 8/2 + 1
    [8.0, 8.0, 5.0]
    """
    batch, T, H, K = k.shape
    S = np.zeros((batch, H, K, v.shape[-1]), dtype=v.dtype) if state is None else state
    kept = np.exp(-slopes)[:, None, None]
    y = np.empty(v.shape, dtype=v.dtype)
    for t in range(T):
        S = kept * S + k[:, t, :, :, None] * v[:, t, :, None, :]
        y[:, t] = (q[:, t, :, None, :] @ S)[:, :, 0]
    return y, np.array(S)


def lightning_matrix(q: NDArray, k: NDArray, slopes: NDArray) -> NDArray:
    """Write the recurrence from its beginning out as a matrix: what each token takes from each earlier one.

    Arguments as in ``lightning_attention``.

    Returns (batch, H, T, T) in q's type, with y_t = Σ_s M[t, s] v_s.

    >>> ones = np.ones((1, 3, 1, 1))
    >>> lightning_matrix(ones, ones, np.log([2.0]))[0, 0].round(6).tolist()
    [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]
    """
    decay = _powers(slopes, q.shape[1]).astype(q.dtype)
    products: NDArray = q.swapaxes(1, 2) @ k.transpose(0, 2, 3, 1)
    return products * decay


def blockwise_lightning_attention(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    slopes: NDArray,
    state: NDArray | None = None,
    block_size: int = BLOCK,
) -> tuple[NDArray, NDArray]:
    """Compute ``lightning_attention``, with the same arguments, ``block_size`` tokens at a time.

    >>> ones, v = np.ones((1, 3, 1, 1)), np.array([8.0, 4.0, 1.0]).reshape(1, 3, 1, 1)
    >>> y, S = blockwise_lightning_attention(ones, ones, v, np.log([2.0]), block_size=2)
    >>> y.ravel().round(6).tolist(), S.ravel().round(6).tolist()
    ([8.0, 8.0, 5.0], [5.0])
    """
    batch, T, H, K = k.shape
    S = np.zeros((batch, H, K, v.shape[-1]), dtype=v.dtype) if state is None else state
    L = max(min(block_size, T), 1)
    decay = _powers(slopes, L).astype(v.dtype)  # (H, L, L): Λ
    since_start = np.exp(-slopes[:, None] * np.arange(1, L + 1)).astype(v.dtype)[..., None]  # (H, L, 1): λ^i
    y = np.empty(v.shape, dtype=v.dtype)
    for start in range(0, T, L):
        block = slice(start, min(start + L, T))
        n = block.stop - start
        queries, keys, values = (x[:, block].swapaxes(1, 2) for x in (q, k, v))  # (batch, H, n, K)
        weights = (queries @ keys.swapaxes(-1, -2)) * decay[:, :n, :n]
        read = weights @ values + (queries * since_start[:, :n]) @ S
        y[:, block] = read.swapaxes(1, 2)
        to_end = decay[:, n - 1, :n, None]  # λ^(n−i)
        S = since_start[:, n - 1 : n] * S + (keys * to_end).swapaxes(-1, -2) @ values
    return y, np.array(S)


def _powers(slopes: NDArray, length: int) -> NDArray:
    """Return λ^(i−j) for j ≤ i, and 0 above the diagonal: (H, length, length)."""
    apart = np.arange(length)[:, None] - np.arange(length)
    return np.tril(np.exp(-slopes[:, None, None] * np.maximum(apart, 0)))
