"""Rotary positions with several axes as a layer: rows and columns of an image, and of images in a text."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.kernels.rope_axes import grid_positions, rotary_angles_by_axis
from tinystar_np.layers.rope import Rotary


class GridStep(Step):
    """The patches of images of one size, row by row, as an encoder reads them.

    images   n
    rows     of patches
    columns  of patches
    """

    def __init__(self, images: int, rows: int, columns: int):
        super().__init__(np.zeros(images, dtype=np.int64), rows * columns)
        self.rows, self.columns = rows, columns


class GridRotary(Rotary):
    """Rotates queries and keys of patches by the row and the column in which they lie.

    frequencies  (J,) as in ``Rotary``
    axes         (J,) which pairs go by rows, 0, and which by columns, 1
    """

    def __init__(self, frequencies: NDArray[np.float32], axes: NDArray[np.int64]):
        super().__init__(frequencies)
        self.axes = axes

    def _rotations(self, step: Step) -> tuple[NDArray, NDArray]:
        """Make cosines and sines: (rows · columns, J), the same for all images."""
        assert isinstance(step, GridStep)
        positions = grid_positions(step.rows, step.columns)  # (2, rows · columns)
        angles = rotary_angles_by_axis(positions, self._frequencies(step), self.axes)
        return np.cos(angles), np.sin(angles)
