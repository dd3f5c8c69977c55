"""Recurrences: one step for a single token, chunks for a prompt, heads divided among threads.

They take a state as an array or a ``DeferredState``, and return a ``DeferredState``.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.deferred_state import DeferredState, deferred
from tinystar_np.fast.threads import divided, head_slices
from tinystar_np.kernels import convolution
from tinystar_np.kernels.delta_rule import chunked_delta_rule
from tinystar_np.kernels.ssm import chunked_ssm_scan

State = NDArray | DeferredState

BLOCK = 65_536  # numbers of a convolution: 256 KB, so that a block's input, products and sum stay in cache


def causal_convolution(
    x: NDArray, weight: NDArray, bias: NDArray | None = None, state: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Convolve each channel of (B, T, C) with its own W weights (W, C), a block of tokens at a time.

    The definition passes over the whole prompt 2·W times, in arrays too large for the cache: blocks were 2.5
    times as fast at 4096 tokens.
    """
    B, T, C = x.shape
    tokens = max(BLOCK // (B * C), 8)
    if tokens >= T:
        return convolution.causal_convolution(x, weight, bias, state)
    y = np.empty((B, T, C), dtype=x.dtype)
    for start in range(0, T, tokens):
        block = slice(start, start + tokens)
        y[:, block], state = convolution.causal_convolution(x[:, block], weight, bias, state)
    assert state is not None  # T > 0: the loop has run
    return y, state


def ssm_scan(
    x: NDArray, dt: NDArray, A: NDArray, B: NDArray, C: NDArray, D: NDArray, state: State | None = None
) -> tuple[NDArray, DeferredState]:
    """Compute Mamba 2's state-space model over (batch, T, H, P)."""
    batch, T, H, P = x.shape
    G, N = B.shape[2:]
    before = None if state is None else deferred(state, values_first=True)
    if before is not None and T == 1:
        step = before.with_room_for_one().with_token(np.exp(dt[:, 0] * A), B[:, 0], (dt[..., None] * x)[:, 0])
        y = step.read(C.swapaxes(1, 2)).swapaxes(1, 2)
        y += D[:, None] * x
        return y, step
    h = None if before is None else before.whole()
    after = np.empty((batch, H, P, N), x.dtype) if before is None else before.room()
    y = np.empty(x.shape, dtype=x.dtype)

    def scan(some: tuple[slice, slice]) -> None:
        heads, groups = some
        y[:, :, heads], after[:, heads] = chunked_ssm_scan(
            x[:, :, heads],
            dt[:, :, heads],
            A[heads],
            B[:, :, groups],
            C[:, :, groups],
            D[heads],
            None if h is None else h[:, heads],
        )

    divided(scan, head_slices(H, G, T))
    return y, _next(before, after, values_first=True)


def _next(before: DeferredState | None, after: NDArray, values_first: bool = False) -> DeferredState:
    if before is None:
        return DeferredState(after, values_first=values_first, own=True)
    return before.followed_by(after)


def delta_rule(
    q: NDArray, k: NDArray, v: NDArray, g: NDArray, beta: NDArray, state: State | None = None
) -> tuple[NDArray, DeferredState]:
    """Apply the gated delta rule to (batch, T, G, K) queries and keys and (batch, T, H, K_v) values.

    For a single token S is only read, by the key and the query at once:

        y_t = S_tᵀ q_t = e^{g_t} S_{t−1}ᵀ q_t + (k_t · q_t) u_t
    """
    batch, T, H, K_v = v.shape
    G, K = k.shape[2:]
    before = None if state is None else deferred(state)
    if before is not None and T == 1:
        before = before.with_room_for_one()
        fade = np.exp(g[:, 0])  # (batch, H)
        faded = before.read(np.concatenate((k, q), axis=1).swapaxes(1, 2))  # (batch, H, 2, K_v)
        faded *= fade[..., None, None]
        u = beta[:, 0, :, None] * (v[:, 0] - faded[:, :, 0])
        own = np.vecdot(k, q).reshape(batch, G, 1, 1) * u.reshape(batch, G, -1, K_v)
        y = faded[:, :, 1] + own.reshape(u.shape)
        return y[:, None], before.with_token(fade, k[:, 0], u)
    S = None if before is None else before.whole()
    after = np.empty((batch, H, K, K_v), v.dtype) if before is None else before.room()
    y = np.empty(v.shape, dtype=v.dtype)

    def remember(some: tuple[slice, slice]) -> None:
        heads, groups = some
        y[:, :, heads], after[:, heads] = chunked_delta_rule(
            q[:, :, groups],
            k[:, :, groups],
            v[:, :, heads],
            g[:, :, heads],
            beta[:, :, heads],
            None if S is None else S[:, heads],
        )

    divided(remember, head_slices(H, G, T))
    return y, _next(before, after)


def selective_scan(
    x: NDArray, dt: NDArray, A: NDArray, B: NDArray, C: NDArray, D: NDArray, state: State | None = None
) -> tuple[NDArray, DeferredState]:
    """Compute Mamba 1's selective scan over (batch, T, F), in two arrays that stay in cache.

    The definition allocates five new ones per token. Channels in groups are read in the same passes: group
    after group was up to 1.3 times as slow.
    """
    batch, T, _ = x.shape
    N, F = A.shape
    U = B.shape[2] if B.ndim == 4 else 1
    P = F // U  # channels of a group
    B, C = B.reshape(batch, T, U, N), C.reshape(batch, T, U, N)
    before = None if state is None else deferred(state)
    h = np.empty((batch, *A.shape), x.dtype) if before is None else before.room()
    h[...] = 0 if before is None else before.whole()
    term = np.empty_like(h)
    y = x * D
    h_grouped, term_grouped = h.reshape(batch, N, U, P), term.reshape(batch, N, U, P)  # views
    y_grouped, inputs = y.reshape(batch, T, U, P), (x * dt).reshape(batch, T, U, P)
    for t in range(T):
        np.multiply(dt[:, t, None], A, out=term)
        np.exp(term, out=term)
        h *= term
        np.multiply(B[:, t].swapaxes(1, 2)[..., None], inputs[:, t, None], out=term_grouped)
        h += term
        # Not @: BLAS would wake its threads for each of these small products, and wait for them.
        y_grouped[:, t] += np.einsum("bun,bnup->bup", C[:, t], h_grouped)
    return y, _next(before, h)
