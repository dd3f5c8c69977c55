"""What a cache asks of the state of a layer, whatever the layer remembers."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class LayerState(Protocol):
    """What one layer remembers of each row of a batch.

    A call may be interrupted between two layers. So that the cache is then what it was, a layer overwrites
    nothing that an earlier call left: what cannot be written behind it waits until ``commit``.
    """

    rewindable: ClassVar[bool]
    """Whether a row can be cut back to fewer tokens by counting fewer: so where each token has a place."""

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""

    def commit(self) -> None:
        """Make what the call computed the state; called when all layers have run."""

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""

    @classmethod
    def join(cls, states: list[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""

    def arrays(self, tokens: int) -> Mapping[str, NDArray]:
        """Return what must be saved of rows that hold up to ``tokens`` tokens."""

    def restore(self, arrays: Mapping[str, NDArray]) -> None:
        """Take over what ``arrays`` returned; raises ValueError where shapes do not fit this layer."""
