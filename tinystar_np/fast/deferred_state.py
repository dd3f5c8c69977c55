"""A linear recurrence's state: a matrix from some tokens ago, and the keys and values of the tokens since.

Mamba 2 (kernels/ssm.py) and the gated delta rule (kernels/delta_rule.py) keep a matrix for each head. Each
token multiplies it by a decay and adds the product of a key and a value:

    S_t = d_t S_{t−1} + k_t v_tᵀ                    S_t (K, V), d_t a number

Computed so, each token reads and writes all of S, K·V numbers, to add K + V new ones. Written out from any
earlier token, here 0,

    S_t = f_0 S_0 + Σ_{0 < s ≤ t} f_s k_s v_sᵀ      f_s = d_{s+1} · … · d_t, and f_t = 1

and a query q reads

    S_tᵀ q = f_0 S_0ᵀ q + Σ f_s (k_s · q) v_s

So S_0 need only be read, once for each token, and attention to a few recent tokens is added. When there are
``MOST`` of them, one sum updates S_0 to S_t. It is the chunked form of prompts, a token at a time. Dao & Gu
2024, arXiv:2405.21060, section 6; Yang et al. 2024, arXiv:2406.06484.

Two arrays are used alternately for S_0: allocating a new one each time would cost more than the sum.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

MOST = 16  # with more, recent tokens cost more to copy and to read; with fewer, S is written more often
FORGOTTEN = np.float32(1e-18)


class Recent(NamedTuple):
    """The keys and values of the n tokens since S_0, and how much they and S_0 have decayed.

    factors  (batch, H, 1 + n), f_0 of the state and f_s of each token
    keys     (batch, G, n, K), where G divides H and neighbouring heads share keys
    values   (batch, H, n, V)
    """

    factors: NDArray
    keys: NDArray
    values: NDArray


class DeferredState:
    """A state that behaves as an array (batch, ...): ``np.asarray(state)``, ``state[rows]``, ``.nbytes``.

    matrix        S_0: (batch, H, K, V), or (batch, H, V, K) with ``values_first``; any shape where ``recent``
                  is None
    recent        the tokens since S_0; None for none
    values_first  whether S_0 is stored transposed
    own           whether ``matrix`` was allocated here, and may be overwritten once another has replaced it
    spare         an array like it that may be overwritten; None where none was needed yet

    Never changed: a call returns a new one. Of an old and a new one only one may be continued, since they
    share the two arrays of S_0; to continue both, copy one by ``state[rows]``.
    """

    def __init__(
        self,
        matrix: NDArray,
        recent: Recent | None = None,
        *,
        values_first: bool = False,
        own: bool = False,
        spare: NDArray | None = None,
    ):
        self.matrix, self.recent, self.values_first = matrix, recent, values_first
        self._own, self._spare = own, spare

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.matrix.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The array's type."""
        return self.matrix.dtype

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        spare = 0 if self._spare is None else self._spare.nbytes
        return self.matrix.nbytes + spare + sum(array.nbytes for array in self.recent or ())

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, rows: NDArray[np.integer] | list[int]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        recent = None if self.recent is None else Recent(*(array[rows] for array in self.recent))
        return type(self)(self.matrix[rows], recent, values_first=self.values_first, own=True)

    def __array__(self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None) -> NDArray:
        return np.array(self.whole(), dtype=dtype, copy=copy)

    def whole(self) -> NDArray:
        """Return S_t as an array, which must not be written to."""
        return self.matrix if self.recent is None else self._summed_up(np.empty_like(self.matrix))

    def room(self) -> NDArray:
        """Return an array to write the next state into; the matrix stays as it is."""
        if self._spare is None:
            self._spare = np.empty(self.matrix.shape, self.matrix.dtype)
        return self._spare

    def followed_by(self, matrix: NDArray) -> Self:
        """Return the next state: the array from ``room``, now written."""
        return type(self)(
            matrix, values_first=self.values_first, own=True, spare=self.matrix if self._own else None
        )

    def with_room_for_one(self) -> Self:
        """Return the same state with fewer than ``MOST`` recent tokens."""
        if self.recent is None or self.recent.values.shape[2] < MOST:
            return self
        return self.followed_by(self._summed_up(self.room()))

    def with_token(self, decay: NDArray, key: NDArray, value: NDArray) -> Self:
        """Return the state after one more token: decay (batch, H), key (batch, G, K), value (batch, H, V)."""
        if self.recent is None:
            recent = Recent(
                np.stack((decay, np.ones_like(decay)), axis=-1), key[:, :, None], value[:, :, None]
            )
        else:
            factors, keys, values = self.recent
            recent = Recent(
                np.concatenate((factors * decay[..., None], np.ones_like(decay)[..., None]), axis=-1),
                np.concatenate((keys, key[:, :, None]), axis=2),
                np.concatenate((values, value[:, :, None]), axis=2),
            )
        return type(self)(
            self.matrix, recent, values_first=self.values_first, own=self._own, spare=self._spare
        )

    def read(self, queries: NDArray) -> NDArray:
        """Read S_tᵀ q for each query: (batch, G, Q, K), shared by a group's heads → (batch, H, Q, V), new."""
        matrix = self.matrix.swapaxes(-1, -2) if self.values_first else self.matrix
        batch, H, K, V = matrix.shape
        G, Q = queries.shape[1:3]
        y: NDArray = (queries[:, :, None] @ matrix.reshape(batch, G, H // G, K, V)).reshape(batch, H, Q, V)
        if self.recent is None:
            return y
        factors, keys, values = self.recent
        y *= factors[..., :1, None]
        scores = (queries @ keys.swapaxes(-1, -2))[:, :, None]  # (batch, G, 1, Q, n)
        weights = factors[..., 1:].reshape(batch, G, H // G, 1, -1) * scores
        y += weights.reshape(batch, H, Q, -1) @ values
        return y

    def _summed_up(self, out: NDArray) -> NDArray:
        """Write S_t, computed from S_0 and the recent tokens, into ``out``."""
        assert self.recent is not None
        factors, keys, values = self.recent
        # Lower factors make no difference to the sum; their products may be denormal, which is slow.
        factors = np.where(factors < FORGOTTEN, np.float32(0), factors)
        np.multiply(self.matrix, factors[..., :1, None], out=out)
        batch, H, n, V = values.shape
        G = keys.shape[1]
        values = (factors[..., 1:, None] * values).reshape(batch, G, H // G, n, V)
        keys = keys[:, :, None]  # (batch, G, 1, n, K)
        added = values.swapaxes(-1, -2) @ keys if self.values_first else keys.swapaxes(-1, -2) @ values
        out += added.reshape(out.shape)
        return out


def deferred(state: NDArray | DeferredState, values_first: bool = False) -> DeferredState:
    """Return an array as a state without recent tokens; a state as it is."""
    return state if isinstance(state, DeferredState) else DeferredState(state, values_first=values_first)
