"""What a cache asks of the state of a layer, whatever the layer remembers."""

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class LayerState(Protocol):
    """What one layer remembers of each row of a batch.

    A call may be interrupted between two layers. So that the cache is then what it was, a layer overwrites
    nothing that an earlier call left: what cannot be written after it waits until ``commit``.
    """

    @property
    def rewindable(self) -> bool:
        """Whether a row can be cut back by counting fewer tokens: so where each has a place."""

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""

    def commit(self) -> None:
        """Make what the call computed the state; called when all layers have run.

        Ctrl-C may come between the layers' commits, and all are called again: the second of a layer must then
        change nothing more.
        """

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""

    def arrays(self, tokens: int) -> Mapping[str, NDArray]:
        """Return what must be saved of rows that hold up to ``tokens`` tokens."""

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Copy what ``arrays(tokens)`` returned; raises ValueError where it does not fit this layer."""

    def clear(self, lengths: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Empty the places of forgotten tokens: beside longer rows they get weight 0, and 0 · NaN is NaN.

        lengths  (B,) tokens that the rows hold now
        before   (B,) tokens that they held
        """
        for array in self.arrays(int(before.max())).values():  # views, where each token has a place
            for row, length, held in zip(array, lengths.tolist(), before.tolist(), strict=True):
                row[:, length:held] = 0

    def bytes_held(self, tokens: int) -> int:
        """Return the bytes of what is remembered of rows with up to so many tokens."""
        return sum(array.nbytes for array in self.arrays(tokens).values())


def check_fit(arrays: Mapping[str, NDArray], fitting: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
    """Raise ValueError unless there are just these names, with these types and shapes."""
    expected = {name: f"{dtype} {shape}" for name, (dtype, shape) in fitting.items()}
    found = {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()}
    if found != expected:
        raise ValueError(f"arrays {found}, not {expected}")
