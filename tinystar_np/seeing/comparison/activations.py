"""Activations of two runs side by side: how far each differs, and the first that does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Difference:
    """The difference of one activation from the reference's.

    name     our name for it (docs/taps.md)
    shape    its shape, the batch axis included
    largest  the largest absolute value in the reference's
    error    the largest absolute difference; NaN where either has a NaN
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    error: float

    @classmethod
    def between(cls, name: str, ours: NDArray, theirs: NDArray) -> "Difference":
        """Measure the difference of two arrays of the same shape; ``theirs`` is the reference's."""
        if ours.dtype.kind in "iu":  # chosen experts
            ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        if not ours.size:
            return cls(name, ours.shape, 0.0, 0.0)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            return cls(name, ours.shape, float(np.abs(theirs).max()), float(np.abs(ours - theirs).max()))

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest value."""
        return self.error / self.largest if self.largest else self.error

    def exceeds(self, tolerance: float) -> bool:
        """Say whether the relative difference is above ``tolerance``, or not a number."""
        return not self.relative <= tolerance


def first_beyond(differences: Sequence[Difference], tolerance: float) -> Difference | None:
    """Return the first that differs by more than the tolerance, None where all agree."""
    return next((row for row in differences if row.exceeds(tolerance)), None)
