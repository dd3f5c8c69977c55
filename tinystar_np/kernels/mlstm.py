"""mLSTM: an LSTM whose memory is a matrix and whose gates are exponential, as in xLSTM.

An LSTM of 1997 keeps a number c for each cell, c_t = f_t c_{t−1} + i_t v_t, and lets a gate f forget and a
gate i write. Two things are changed. The memory of a head is a matrix C (K, K_v) that maps keys to values, as
in linear attention; and the input gate is e^i, without an upper limit, so that a token can outweigh all
earlier ones, which a sigmoid could not. What was written is then divided by how much was written under such
keys, n:

    C_t = σ(f_t) C_{t−1} + e^{i_t} k_t v_tᵀ          σ: sigmoid; f and i: a number for each head and token
    n_t = σ(f_t) n_{t−1} + e^{i_t} k_t
    y_t = C_tᵀ q / max(|n_t · q|, 1)                q = q_t / √K

Exponentials overflow, so C and n are kept divided by e^m, with m_t = max(log σ(f_t) + m_{t−1}, i_t) the
largest exponent so far, from m_0 = 0; then 1 in the maximum becomes e^{−m}. Beck et al. 2024,
arXiv:2405.04517; the makers add eps to the maximum. There is no product of old hidden states with weights as
in an LSTM, so a text need not be read one token after the other. (xLSTM's other cell, sLSTM, has one; the 7B
model has none of these, and transformers neither.)

n is what C would be for one more value that is always 1. So values here have a last column of ones, and C and
n are one matrix of K_v + 1 columns.

``mlstm`` is the recurrence. ``chunked_mlstm`` takes L tokens at once, as kernels/ssm.py does: with
b_t = Σ log σ(f) since the chunk began,

    d_ts = b_t − b_s + i_s for s ≤ t               m_t = max(b_t + m_0, max_s d_ts)
    C_tᵀ q = Σ_s e^{d_ts − m_t} (q_t · k_s) v_s + e^{b_t + m_0 − m_t} C_0ᵀ q_t

and C is read and written once for a chunk.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 64


class Memory(NamedTuple):
    """What a head remembers.

    matrix    (B, H, K, K_v + 1): C and n, over e^m
    exponent  (B, H): m
    """

    matrix: NDArray
    exponent: NDArray


def mlstm(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    i: NDArray,
    f: NDArray,
    memory: Memory | None = None,
    eps: float = 1e-6,
) -> tuple[NDArray, Memory]:
    """Compute the recurrence by the definition, one token after the other.

    q, k    (B, T, H, K)
    v       (B, T, H, K_v)
    i, f    (B, T, H), the gates before exponential and sigmoid
    memory  after the tokens that came before; None for none
    eps     added to what is divided by

    Returns y (B, T, H, K_v) and the memory after the last token, all new arrays.

    >>> k, v = np.ones((1, 2, 1, 1)), np.array([5.0, 7.0]).reshape(1, 2, 1, 1)
    >>> i, f = np.log([[[1.0], [3.0]]]), np.full((1, 2, 1), 100.0)  # nothing is forgotten
    >>> mlstm(k, k, v, i, f, eps=0.0)[0].ravel().tolist()  # 5; (5 + 3 · 7) / (1 + 3)
    [5.0, 6.5]
    """
    matrix, m = initial_memory(q, v) if memory is None else memory
    values = with_ones(v)
    q = q * q.dtype.type(q.shape[-1] ** -0.5)
    y = np.empty(v.shape, dtype=v.dtype)
    for t in range(q.shape[1]):
        forget = log_sigmoid(f[:, t])
        most = np.maximum(forget + m, i[:, t])  # (B, H)
        kept, written = np.exp(forget + m - most), np.exp(i[:, t] - most)
        outer = k[:, t, :, :, None] * values[:, t, :, None]  # (B, H, K, K_v + 1)
        matrix = kept[..., None, None] * matrix + written[..., None, None] * outer
        m = most
        read = (q[:, t, :, None] @ matrix)[:, :, 0]  # (B, H, K_v + 1)
        y[:, t] = divided(read, m, eps)
    return y, Memory(matrix, m)


def chunked_mlstm(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    i: NDArray,
    f: NDArray,
    memory: Memory | None = None,
    eps: float = 1e-6,
) -> tuple[NDArray, Memory]:
    """Compute ``mlstm``, with the same arguments, ``CHUNK`` tokens at a time.

    >>> k, v = np.ones((1, 2, 1, 1)), np.array([5.0, 7.0]).reshape(1, 2, 1, 1)
    >>> i, f = np.log([[[1.0], [3.0]]]), np.full((1, 2, 1), 100.0)
    >>> chunked_mlstm(k, k, v, i, f, eps=0.0)[0].ravel().tolist()
    [5.0, 6.5]
    """
    matrix, m = initial_memory(q, v) if memory is None else memory
    values = with_ones(v).swapaxes(1, 2)  # (B, H, T, K_v + 1)
    q = (q * q.dtype.type(q.shape[-1] ** -0.5)).swapaxes(1, 2)
    k, i, f = k.swapaxes(1, 2), i.swapaxes(1, 2), log_sigmoid(f).swapaxes(1, 2)
    y = np.empty(v.shape, dtype=v.dtype)
    for start in range(0, v.shape[1], CHUNK):
        some = slice(start, start + CHUNK)
        queries, keys, own = q[:, :, some], k[:, :, some], values[:, :, some]
        b = np.cumsum(f[..., some], axis=-1)  # (B, H, L)
        d = b[..., None] - b[..., None, :] + i[..., None, some]  # (B, H, L, L)
        d = np.where(np.tri(d.shape[-1], dtype=bool), d, d.dtype.type(-np.inf))
        earlier = b + m[..., None]  # the exponent of what came before the chunk
        most = np.maximum(earlier, d.max(axis=-1))  # (B, H, L)
        weights = np.exp(d - most[..., None])
        kept = np.exp(earlier - most)[..., None]  # (B, H, L, 1)
        read = (weights * (queries @ keys.swapaxes(-1, -2))) @ own + kept * (queries @ matrix)
        y[:, some] = divided(read, most, eps).swapaxes(1, 2)
        matrix = kept[..., -1:, :] * matrix + (weights[..., -1, :, None] * keys).swapaxes(-1, -2) @ own
        m = most[..., -1]
    return y, Memory(matrix, m)


def divided(read: NDArray, m: NDArray, eps: float) -> NDArray:
    """Divide what was read by how much was written: (..., K_v + 1) over e^m, (...) → (..., K_v).

    >>> divided(np.array([6.0, -2.0]), np.array(0.0), eps=0.0).tolist()
    [3.0]
    """
    largest = np.maximum(np.abs(read[..., -1]), np.exp(-m)) + read.dtype.type(eps)
    return read[..., :-1] / largest[..., None]


def log_sigmoid(x: NDArray) -> NDArray:
    """Return log(1 / (1 + e^{−x})), exact where it is near 0 as well.

    >>> log_sigmoid(np.array([0.0, 800.0, -800.0])).round(6).tolist()
    [-0.693147, -0.0, -800.0]
    """
    return -np.logaddexp(x.dtype.type(0), -x)


def with_ones(v: NDArray) -> NDArray:
    """Append a value that is always 1: (..., K_v) → (..., K_v + 1).

    >>> with_ones(np.array([5.0, 6.0])).tolist()
    [5.0, 6.0, 1.0]
    """
    return np.concatenate((v, np.ones_like(v[..., :1])), axis=-1)


def initial_memory(q: NDArray, v: NDArray) -> Memory:
    """Return the memory before the first token, for queries (B, T, H, K) and values (B, T, H, K_v).

    >>> initial_memory(np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 2, 4))).matrix.shape
    (1, 2, 3, 5)
    """
    B, _, H, K = q.shape
    return Memory(np.zeros((B, H, K, v.shape[-1] + 1), dtype=v.dtype), np.zeros((B, H), dtype=v.dtype))
