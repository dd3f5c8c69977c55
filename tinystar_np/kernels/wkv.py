"""RWKV's WKV: a weighted mean of all earlier values, as a recurrence.

Each of C channels takes a mean of what its values were. A value's weight is e^k of its own token, not of how
a query compares with it, and falls by the same share e^w with every token that has passed, w < 0; the present
token has a bonus u instead:

             Σ_{s < t} e^{(t − 1 − s) w + k_s} v_s  +  e^{u + k_t} v_t
    wkv_t = ───────────────────────────────────────────────────────────
             Σ_{s < t} e^{(t − 1 − s) w + k_s}      +  e^{u + k_t}

Both sums over s are a state: a_{t+1} = e^w a_t + e^{k_t} v_t, and b likewise without v. So a text is read in
one direction with three numbers for each channel, and while training all of it can be computed at once, as
with attention. After Zhai et al. 2021, arXiv:2105.14103 (an attention-free transformer), whose weights by
distance are a table; here they are an exponential. Peng et al. 2023, arXiv:2305.13048 (RWKV-4).

``wkv_matrix`` is the definition: the weights of a token are a softmax, of scores that no query has a part in.

``wkv`` is the recurrence. It keeps a and b divided by e^m, where m is the largest exponent so far, as a
softmax takes the largest score away: e^k alone is beyond float32 from k = 89 on. Blockwise attention, which
does not know the largest score in advance either, does the same (kernels/blockwise_attention.py).

**Token shift.** What makes k, v and the gate reads a mixture of the present token's vector and the one before
it, μ x_t + (1 − μ) x_{t−1}, with a share μ for each number that is learned: a convolution over two tokens.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import softmax


def wkv_matrix(k: NDArray, decay: NDArray, bonus: NDArray) -> NDArray:
    """Write the weights out as a matrix: what each token takes from each earlier one, and from itself.

    Arguments as in ``wkv``.

    Returns (B, C, T, T) in k's type, whose rows sum to 1, with wkv_t = Σ_s M[t, s] v_s.

    >>> wkv_matrix(np.zeros((1, 3, 1)), np.log([0.5]), np.array([0.0]))[0, 0].round(6).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.4, 0.4]]
    """
    T = k.shape[1]
    apart = (np.arange(T)[:, None] - np.arange(T)).astype(k.dtype)  # t − s
    added = np.where(apart > 0, (apart - 1) * decay[:, None, None], bonus[:, None, None])  # (C, T, T)
    scores = added + k.swapaxes(1, 2)[:, :, None, :]  # (B, C, T, T)
    return softmax(np.where(apart >= 0, scores, scores.dtype.type(-np.inf)))


def wkv(
    k: NDArray, v: NDArray, decay: NDArray, bonus: NDArray, state: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Compute the weighted means by the recurrence, one token after the other.

    k, v   (B, T, C)
    decay  (C,), w, below 0
    bonus  (C,), u
    state  (B, 3, C): a and b over e^m, and m, after the tokens that came before; None for none

    Returns wkv (B, T, C) and the state after the last token (B, 3, C), both new arrays.

    >>> k, v = np.zeros((1, 3, 1)), np.array([[[4.0], [8.0], [3.0]]])
    >>> y, state = wkv(k, v, decay=np.log([0.5]), bonus=np.array([0.0]))
    >>> y.ravel().round(6).tolist()  # 4; (4 + 8) / 2; (4/2 + 8 + 3) / (1/2 + 1 + 1)
    [4.0, 6.0, 5.2]
    """
    a, b, m = np.moveaxis(initial_state(len(k), k.shape[2], k.dtype) if state is None else state, 1, 0)
    y = np.empty(k.shape, dtype=k.dtype)
    for t in range(k.shape[1]):
        key, value = k[:, t], v[:, t]
        present = key + bonus
        most = np.maximum(m, present)
        earlier, now = np.exp(m - most), np.exp(present - most)
        y[:, t] = (earlier * a + now * value) / (earlier * b + now)
        most = np.maximum(m + decay, key)
        earlier, now = np.exp(m + decay - most), np.exp(key - most)
        a, b, m = earlier * a + now * value, earlier * b + now, most
    return y, np.stack((a, b, m), axis=1)


def initial_state(rows: int, channels: int, dtype: np.typing.DTypeLike = np.float32) -> NDArray:
    """Return the state before the first token, (B, 3, C): sums of nothing, and no exponent yet.

    >>> initial_state(1, 1).ravel().tolist()
    [0.0, 0.0, -inf]
    """
    state = np.zeros((rows, 3, channels), dtype=dtype)
    state[:, 2] = -np.inf
    return state


def token_shift(x: NDArray, before: NDArray | None = None) -> NDArray:
    """Return the vector of the token before each: (B, T, D) → (B, T, D).

    before  (B, D), that before the first; None for zeros

    >>> token_shift(np.array([[[1.0], [2.0], [3.0]]])).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    first = np.zeros_like(x[:, :1]) if before is None else before[:, None]
    return np.concatenate((first, x[:, :-1]), axis=1)


def mixed(x: NDArray, shifted: NDArray, share: NDArray) -> NDArray:
    """Mix each vector with the one before it: μ x_t + (1 − μ) x_{t−1}.

    x, shifted  (B, T, D)
    share       μ, (D,) or broadcastable

    >>> mixed(np.array([4.0, 4.0]), np.array([8.0, 8.0]), np.array([1.0, 0.25])).tolist()
    [4.0, 7.0]
    """
    return share * x + (1 - share) * shifted
