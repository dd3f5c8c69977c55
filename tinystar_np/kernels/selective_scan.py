"""The selective scan of Mamba 1: a linear recurrence whose decay, input and output depend on the token.

A linear state-space model keeps a state h of N numbers for each channel x, which decays while it adds to it:

    h_t = exp(Δ_t A) h_{t−1} + Δ_t x_t B_t        A < 0: the state decays
    y_t = C_t · h_t + D x_t                       D: a skip connection

Without selection it forgets at a fixed rate, whatever it reads. Selection makes three of its parameters
depend on the token: the step Δ_t (a long step forgets the state and takes the token in, a step of 0 skips the
token); B_t, where in the state it is written; C_t, what is read. Every channel has its own Δ_t and its own N
rates A; B_t and C_t are shared by all channels, or by those of a group. Neither the cost of a token nor the
size of the state depends on how many tokens came before. Gu & Dao 2023, arXiv:2312.00752, algorithm 2; the
decay exp(ΔA) is the exact solution over a step of length Δ (zero-order hold), the input Δ B is its
first-order approximation.

Written out, a channel's output is a sum over all tokens so far:

    y_t = Σ_{s ≤ t} Σ_n C_t[n] · exp((Δ_{s+1} + … + Δ_t) A[n]) · B_s[n] · Δ_s x_s  +  D x_t

``selective_matrix`` is that sum's T × T matrix, one for each channel.

Because every channel decays at N rates of its own, a prompt cannot be computed by matrix products, as in
Mamba 2 (kernels/ssm.py): N·F exponentials per token are unavoidable.

The state is (N, F) here, not (F, N) as in the paper, so that the long axis is the inner one, along which
NumPy computes.
"""

import numpy as np
from numpy.typing import NDArray


def selective_scan(
    x: NDArray,
    dt: NDArray,
    A: NDArray,
    B: NDArray,
    C: NDArray,
    D: NDArray,
    state: NDArray | None = None,
) -> tuple[NDArray, NDArray]:
    """Run the recurrence, one token after the other.

    x      (batch, T, F), F channels
    dt     (batch, T, F), Δ ≥ 0
    A      (N, F), below 0
    B, C   (batch, T, N); or (batch, T, U, N) where each of U groups of F/U neighbouring channels has its own
    D      (F,)
    state  (batch, N, F), h after the tokens that came before; None for zeros

    Returns y (batch, T, F) and the state after the last token (batch, N, F), both new arrays.

    >>> x, ones = np.array([[[8.0], [1.0]]]), np.ones((1, 2, 1))  # one channel, N = 1
    >>> y, h = selective_scan(x, dt=ones, A=np.log([[0.5]]), B=ones, C=ones, D=np.ones(1))
    >>> y.ravel().round(6).tolist()  # h is 8, then 8/2 + 1 = 5; D x adds 8, then 1
    [16.0, 6.0]
    """
    F = x.shape[2]
    h = np.zeros((len(x), *A.shape), dtype=x.dtype) if state is None else state
    y = np.empty(x.shape, dtype=x.dtype)
    for t in range(x.shape[1]):
        x_t, dt_t = x[:, t, None], dt[:, t, None]  # (batch, 1, F)
        B_t, C_t = of_channels(B[:, t], F), of_channels(C[:, t], F)
        h = np.exp(dt_t * A) * h + B_t * (dt_t * x_t)  # (batch, N, F)
        y[:, t] = np.sum(C_t * h, axis=1) + D * x[:, t]
    return y, h


def of_channels(vectors: NDArray, F: int) -> NDArray:
    """Give each channel a token's B or C.

    vectors  (batch, N), or (batch, U, N) of U groups

    Returns (batch, N, 1), one for all, or (batch, N, F).

    >>> of_channels(np.array([[[1], [2]]]), F=4).tolist()  # two groups of two channels, N = 1
    [[[1, 1, 2, 2]]]
    """
    if vectors.ndim == 2:
        return vectors[:, :, None]
    return np.repeat(vectors, F // vectors.shape[1], axis=1).swapaxes(1, 2)


def selective_matrix(dt: NDArray, A: NDArray, B: NDArray, C: NDArray, D: NDArray) -> NDArray:
    """Write the recurrence from its beginning out as matrices: what each token takes from each earlier one.

    Arguments as in ``selective_scan``; F may be some of the channels. A column is what the scan makes of an
    input of 1 at one token: the same decays, without an exponential for each pair of tokens.

    Returns (batch, F, T, T) in dt's type, with y_t = Σ_s M[t, s] x_s for each channel.

    >>> ones = np.ones((1, 2, 1))
    >>> M = selective_matrix(dt=ones, A=np.log([[0.5]]), B=ones, C=ones, D=np.ones(1))[0, 0].round(6)
    >>> M.tolist(), (M @ [8.0, 1.0]).tolist()  # selective_scan gives the same
    ([[2.0, 0.0], [0.5, 2.0]], [16.0, 6.0])
    """
    N, F = A.shape
    batch, T, _ = dt.shape
    left = np.zeros((batch, T, N, F), dtype=dt.dtype)  # of each earlier token's share of the state, for x = 1
    weights = np.zeros((batch, F, T, T), dtype=dt.dtype)
    for t in range(T):
        left[:, :t] *= np.exp(dt[:, t, None] * A)[:, None]
        left[:, t] = of_channels(B[:, t], F) * dt[:, t, None]
        read = np.einsum("bnf,bsnf->bsf", of_channels(C[:, t], F), left[:, : t + 1])
        weights[:, :, t, : t + 1] = read.swapaxes(1, 2)
    return weights + D[:, None, None] * np.eye(T, dtype=dt.dtype)
