"""The real-gated linear recurrent unit (RG-LRU): a recurrence of one number for each channel.

    r_t = σ(W_r x_t + b_r)                  recurrence gate
    i_t = σ(W_i x_t + b_i)                  input gate
    a_t = exp(−8 · r_t · softplus(Λ))       0 < a < 1: what is left of the state
    h_t = a_t h_{t−1} + √(1 − a_t²) · i_t x_t

All of it is elementwise but W_r and W_i, which have a block for each head: a channel's gates depend on the
channels of its own head. Λ is learned and sets how fast a channel can forget. The gate r chooses how much of
that a token does: r = 0 keeps the state and lets nothing in, r = 1 forgets at the full rate. The exponent 8
makes a gate that is half open forget much less than half as much as an open one.

The factor √(1 − a²) keeps the state as large as its inputs, whatever the decay: if h and i x are independent
and have variance 1, the new h has variance a² + (1 − a²) = 1. Before the first token there is no state, and
the factor is 1.

The output is the state itself, so a channel has one number where Mamba's has N (kernels/selective_scan.py),
and a token takes two operations for each. That is little beside the products around it, so there are no
chunks: a prompt is read one token after the other, for all channels at once. De et al. 2024 (Griffin),
arXiv:2402.19427, section 2.4; the linear recurrent unit, with fixed decays, is Orvieto et al. 2023,
arXiv:2303.06349.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.activations import softplus

EXPONENT = 8


def block_diagonal(x: NDArray, weight: NDArray, bias: NDArray) -> NDArray:
    """Multiply each head by its own matrix: one product with a matrix that is zero outside of H blocks.

    x       (B, T, H·P)
    weight  (H, P, P), each (in, out)
    bias    (H, P)

    Returns (B, T, H·P), a new array.

    >>> weight = np.array([[[2.0]], [[3.0]]])  # two heads of one number
    >>> block_diagonal(np.array([[[1.0, 1.0]]]), weight, np.array([[0.0], [0.5]])).ravel().tolist()
    [2.0, 3.5]
    """
    H, P, _ = weight.shape
    by_head = x.reshape(-1, H, P).swapaxes(0, 1)  # (H, B·T, P)
    return (by_head @ weight + bias[:, None]).swapaxes(0, 1).reshape(x.shape)


def log_decay(recurrence_gate: NDArray, parameter: NDArray) -> NDArray:
    """Compute log a: how fast each channel forgets at each token.

    recurrence_gate  r (B, T, C), 0 to 1
    parameter        Λ (C,)

    Returns (B, T, C), below 0.

    >>> log_a = log_decay(np.array([[[0.5, 1.0]]]), np.log(np.expm1(np.full(2, 0.125))))
    >>> log_a.ravel().round(6).tolist()  # where softplus(Λ) is 1/8
    [-0.5, -1.0]
    """
    return recurrence_gate * (-EXPONENT * softplus(parameter))


def rg_lru(
    x: NDArray,
    input_gate: NDArray,
    log_a: NDArray,
    begins: NDArray[np.bool_],
    state: NDArray | None = None,
) -> tuple[NDArray, NDArray]:
    """Run the recurrence, one token after the other.

    x           (B, T, C)
    input_gate  i (B, T, C), 0 to 1
    log_a       (B, T, C), at most 0
    begins      (B, T): true for the first token of a text, whose factor is 1
    state       (B, C), h after the tokens that came before; None for zeros, as before a first token

    Returns h after each token (B, T, C), and after the last (B, C), both new arrays.

    >>> x, first = np.array([[[10.0], [5.0]]]), np.array([[True, False]])
    >>> y, h = rg_lru(x, np.ones_like(x), np.full(x.shape, np.log(0.6)), first)
    >>> y.ravel().round(6).tolist()  # 10, then 0.6 · 10 + 0.8 · 5, since √(1 − 0.36) = 0.8
    [10.0, 10.0]
    """
    kept = np.exp(log_a)
    # 1 − a² by way of expm1: where a is near 1, the difference of both would lose its digits. Where somebody
    # sets a above 1, nothing is let in.
    admitted = np.sqrt(np.maximum(-np.expm1(2 * log_a), 0))
    admitted = np.where(begins[..., None], x.dtype.type(1), admitted)
    inputs = admitted * (input_gate * x)
    h = np.zeros_like(x[:, 0]) if state is None else state
    y = np.empty_like(x)
    for t in range(x.shape[1]):
        h = kept[:, t] * h + inputs[:, t]
        y[:, t] = h
    return y, h
