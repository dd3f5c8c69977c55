"""The weights of one rank's part of a model: its own from the checkpoint, and hollow ones for the others.

A rank builds every block, as one process does, and then keeps its own. What others have takes no memory here:
an array of a single zero, broadcast to its shape.
"""

from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import FittedTable, gather
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD, Row
from tinystar_np.errors import InputError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.models.config import AnyConfig
from tinystar_np.models.fitted import fitted
from tinystar_np.models.memory import side_by_side
from tinystar_np.ranks import Division, Part

if TYPE_CHECKING:
    from tinystar_np.models.base import Decoder


def weights_of_part(
    model: "type[Decoder[AnyConfig]]", config: AnyConfig, checkpoint: Checkpoint, dtype: str, part: Part
) -> tuple[AnyConfig, dict[str, Matrix], int]:
    """Take a part's weights from a checkpoint; arguments as of ``Decoder.from_checkpoint``.

    Returns the config, as ``fitted`` does, {our name: array or matrix}, and how many parameters the whole
    model has.
    Raises InputError where the model cannot be divided so.
    """
    division = part.divide(model.DIVIDES)
    if division is not None and model.DIVIDES.why_not:
        raise InputError(
            f"{model.__name__} cannot be divided by heads: {model.DIVIDES.why_not}\n"
            'Divide it by layers: --parallel layers, or parallel="layers".'
        )
    config, table = fitted(model, config, checkpoint, division)
    if division is not None:
        _tell(division, table)
    home = config.home
    here = table.only(lambda row: part.has(row.ours, home) and not row.elsewhere)
    own = side_by_side(gather(checkpoint, here, dtype, in_parts=True))
    found = {name: own[name] if name in own else hollow(row.shape) for name, row in table.rows.items()}
    return config, found, sum(prod(whole(row)) for row in table.rows.values())


def _tell(division: Division, table: FittedTable) -> None:
    """Let a rank know what its layers ask of its parts of a table's arrays."""
    rows = table.rows
    division.joins = {name: row.joins for name, row in rows.items() if row.joins}
    division.shares = {name: row.share for name, row in rows.items() if row.joins == "mean"}
    for name, row in rows.items():
        first = row.part[0] if row.part else None
        if row.is_table and row.joins == "sum" and isinstance(first, slice):
            division.first_rows[name] = first.start
    if EMBEDDING in division.joins:
        division.joins.setdefault(HEAD, "side by side")  # tied, it has columns of the same tokens


def hollow(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return zeros that take no memory, in place of weights that other ranks have."""
    return np.broadcast_to(np.float32(0), shape)


def is_hollow(array: Matrix) -> bool:
    """Say whether an array is a hollow one."""
    return isinstance(array, np.ndarray) and array.size > 1 and not any(array.strides)


def whole(row: Row) -> tuple[int, ...]:
    """Return the shape that an array has in the whole model."""
    return row.shape if row.undivided is None else row._replace(part=row.undivided).shape
