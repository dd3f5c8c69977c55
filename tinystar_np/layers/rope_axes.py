"""Rotary positions with several axes as a layer: rows and columns of an image, and of images in a text."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.kernels.rope_axes import grid_positions, positions_by_axis, rotary_angles_by_axis
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


class TextRotary(Rotary):
    """Rotates the tokens of a text by their positions, and those of its images by rows and columns.

    M-RoPE, see kernels/rope_axes.py. A text without images is rotated as by ``Rotary``. Tokens after an image
    stand at their place less what the image has saved, in whichever call they come: the cache keeps the
    images of its rows.

    frequencies       (J,) as in ``Rotary``
    axes              (J,) which pairs go by time, 0, by rows, 1, and by columns, 2
    attention_factor  as in ``Rotary``
    rule              as in ``Rotary``
    """

    def __init__(
        self,
        frequencies: NDArray[np.float32],
        axes: NDArray[np.int64],
        *,
        attention_factor: float = 1.0,
        rule: object = None,
    ):
        super().__init__(frequencies, attention_factor=attention_factor, rule=rule)
        self.axes = axes

    def _rotations(self, step: Step) -> tuple[NDArray, NDArray]:
        """Make cosines and sines: (T, J), or (B, 1, T, J) where a row has images or stands elsewhere."""
        if step.images is None:
            return super()._rotations(step)
        rows = [
            positions_by_axis(
                positions,
                [(int(image.places[0]), len(image.places), image.grid) for image in images if image.grid],
            )
            for positions, images in zip(step.positions, step.images, strict=True)
        ]
        positions = np.stack(rows, axis=1)[:, :, None]  # (3, B, 1, T)
        angles = rotary_angles_by_axis(positions, self._frequencies(step), self.axes)
        factor = np.float32(self.attention_factor)
        return np.cos(angles) * factor, np.sin(angles) * factor
