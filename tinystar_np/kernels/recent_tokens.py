"""The state of a linear recurrence as it was some tokens ago, and apart from it what has come since.

Mamba 2 (kernels/ssm.py) and the gated delta rule (kernels/delta_rule.py) remember a matrix for each head. A
token lets it decay by a factor and adds the product of a key and a value:

    S_t = d_t S_{t−1} + k_t v_tᵀ                    S_t (K, V), d_t a number

Written so, each token reads and writes all of S, K·V numbers, for the K + V that are new. The same S is, from
any earlier token on,

    S_t = f_0 S_0 + Σ_{0 < s ≤ t} f_s k_s v_sᵀ      f_s = d_{s+1} · … · d_t, and f_t = 1

and what a query q reads in it

    S_tᵀ q = f_0 S_0ᵀ q + Σ f_s (k_s · q) v_s

So S_0 need only be read, once for a token, and a short attention is added to it. When there are ``MOST``
tokens, one sum over all of them makes S_t of S_0. It is the form in which prompts are read in chunks, a token
at a time. Dao & Gu 2024, arXiv:2405.21060, section 6; Yang et al. 2024, arXiv:2406.06484.
"""

import numpy as np
from numpy.typing import NDArray

MOST = 16  # more and what is kept apart costs more to copy and to read, fewer and S is written more often
FORGOTTEN = np.float32(1e-18)

Recent = tuple[NDArray, NDArray, NDArray]
"""What n tokens have added, and how far they and the state before them have faded.

    factors  (batch, H, 1 + n), f_0 of the state and f_s of each token
    keys     (batch, G, n, K), where G divides H and neighbouring heads share keys
    values   (batch, H, n, V)
"""


def tokens_of(recent: Recent) -> int:
    """Count what is recent: n."""
    return int(recent[0].shape[-1]) - 1


def nothing_recent(batch: int, heads: int, groups: int, key_dim: int, value_dim: int) -> Recent:
    """Make what no tokens have added: n = 0, f_0 = 1."""
    keys, values = (batch, groups, 0, key_dim), (batch, heads, 0, value_dim)
    return np.ones((batch, heads, 1), np.float32), np.zeros(keys, np.float32), np.zeros(values, np.float32)


def with_token(recent: Recent, decay: NDArray, key: NDArray, value: NDArray) -> Recent:
    """Return what is recent after one more token, in new arrays.

    decay  (batch, H), d_t
    key    (batch, G, K)
    value  (batch, H, V)
    """
    factors, keys, values = recent
    return (
        np.concatenate((factors * decay[..., None], np.ones_like(decay)[..., None]), axis=-1),
        np.concatenate((keys, key[:, :, None]), axis=2),
        np.concatenate((values, value[:, :, None]), axis=2),
    )


def read(state: NDArray, recent: Recent, queries: NDArray) -> NDArray:
    """Read S_tᵀ q for each query.

    state    (batch, H, K, V), S_0
    queries  (batch, G, Q, K), shared by the heads of a group

    Returns (batch, H, Q, V), a new array.
    """
    factors, keys, values = recent
    batch, H, K, V = state.shape
    G, Q = queries.shape[1:3]
    y: NDArray = (queries[:, :, None] @ state.reshape(batch, G, H // G, K, V)).reshape(batch, H, Q, V)
    y *= factors[..., :1, None]
    scores = (queries @ keys.swapaxes(-1, -2))[:, :, None]  # (batch, G, 1, Q, n)
    weights = factors[..., 1:].reshape(batch, G, H // G, 1, -1) * scores
    y += weights.reshape(batch, H, Q, -1) @ values
    return y


def sum_up(state: NDArray, recent: Recent, after: NDArray, values_first: bool = False) -> None:
    """Write S_t, of S_0 and what is recent.

    state         (batch, H, K, V), S_0; with ``values_first`` (batch, H, V, K)
    after         the same shape, overwritten by S_t; another array
    values_first  whether both lie the other way round
    """
    factors, keys, values = recent
    # Factors further down are invisible in the sum; their products may be denormal numbers, which are slow.
    factors = np.where(factors < FORGOTTEN, np.float32(0), factors)
    np.multiply(state, factors[..., :1, None], out=after)
    batch, H, n, V = values.shape
    G = keys.shape[1]
    values = (factors[..., 1:, None] * values).reshape(batch, G, H // G, n, V)
    keys = keys[:, :, None]  # (batch, G, 1, n, K)
    added = values.swapaxes(-1, -2) @ keys if values_first else keys.swapaxes(-1, -2) @ values
    after += added.reshape(state.shape)
