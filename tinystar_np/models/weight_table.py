"""Tables of weight names, and how a checkpoint's tensors are gathered by one.

A model file says in one table what it calls each array, what the checkpoint calls it, and its shape:

    "blocks.{i}.attention.qkv.weight": ("h.{i}.attn.c_attn.weight", "D 3D"),

An axis is a product of the config's letters and a number: "3D" is three times the model width; "HK+2GK" is
a sum of two such products. Linear layers want (in, out); where a file stores (out, in), the row says
"V D -> D V" and the matrix is used transposed, which is a view and costs nothing.

A row is written out for every layer ``{i}`` and every expert ``{e}``. The matrices of all experts of a layer
may be one tensor: then ``{e}`` stands in our name only, and "E F D -> D F" says that the first axis counts
the experts; with "EF D -> D F" their matrices lie one below the other in one matrix.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.bfloat16 import narrow
from tinystar_np.kernels.int8 import quantise
from tinystar_np.layers.matrices import Bfloat16Matrix, Int8Matrix, NarrowMatrix

WeightTable = Mapping[str, tuple[str, str]]


class Row(NamedTuple):
    """One row of a table, written out.

    ours    our name
    theirs  the checkpoint's name
    stored  the axes of the tensor
    used    the axes of the array that is taken from it
    turned  whether it is used transposed
    part    which expert of a tensor that holds all; None for the whole tensor
    """

    ours: str
    theirs: str
    stored: tuple[str, ...]
    used: tuple[str, ...]
    turned: bool
    part: int | None

    @property
    def is_matrix(self) -> bool:
        """Whether a linear layer or an embedding multiplies by it: it may then be of a narrow type.

        A router is none of them: a rounded score may choose another expert, and it is small.
        """
        return self.ours.endswith(".weight") and len(self.used) == 2 and ".router." not in self.ours


def for_layers(rows: WeightTable, layers: Iterable[int]) -> dict[str, tuple[str, str]]:
    """Write out rows with ``{i}`` for some layers only: those of one kind, in a model that has several."""
    return {
        ours.replace("{i}", str(i)): (theirs.replace("{i}", str(i)), axes)
        for i in layers
        for ours, (theirs, axes) in rows.items()
    }


def expand(table: WeightTable, sizes: Mapping[str, int]) -> dict[str, Row]:
    """Write out every row, once per layer and once per expert: {our name: row}."""
    rows = (
        row
        for ours, (theirs, axes) in table.items()
        for i in (range(sizes["L"]) if "{i}" in ours else (0,))
        for row in _experts(ours.replace("{i}", str(i)), theirs.replace("{i}", str(i)), axes, sizes)
    )
    return {row.ours: row for row in rows}


def _experts(ours: str, theirs: str, axes: str, sizes: Mapping[str, int]) -> Iterator[Row]:
    stored, arrow, used = (tuple(side.split()) for side in axes.partition("->"))
    together = "{e}" in ours and "{e}" not in theirs
    # Of a tensor for all, each has what follows the first axis, or its share of it.
    whole = (*([stored[0][1:]] if stored[0] != "E" else []), *stored[1:]) if together else stored
    turned = bool(arrow) and not (together and used == whole)
    for e in range(sizes["E"] if "{e}" in ours else 1):
        names = ours.replace("{e}", str(e)), theirs.replace("{e}", str(e))
        yield Row(*names, stored, used or stored, turned, e if together else None)


def shape_of(axes: Sequence[str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Turn axes such as "D", "3D" and "HK+2GK" into numbers: sums of products of letters and numbers."""
    return tuple(
        sum(
            prod(int(p) if p.isdigit() else sizes[p] for p in re.findall(r"\d+|\D", product))
            for product in axis.split("+")
        )
        for axis in axes
    )


def gather(
    checkpoint: Checkpoint,
    table: WeightTable,
    sizes: Mapping[str, int],
    *,
    prefix: str,
    ignored: str,
    dtype: str = "auto",
) -> dict[str, NDArray | NarrowMatrix]:
    """Take every array of a table from a checkpoint.

    table    with its rows per layer not yet written out
    sizes    the config's letters
    prefix   what some files put before the names in the table and others do not ("transformer.")
    ignored  a regular expression for the names (without prefix) of tensors that are no weights: mask
             buffers of old files, an output layer that is tied to the embedding
    dtype    the element type to keep matrices in, see ``load``

    Returns {our name: array or matrix}. What keeps its type is a view of the mapped file.
    Raises CheckpointError naming the tensors that are missing, left over, or of the wrong shape.
    """
    rows = expand(table, sizes)
    stored: dict[str, str] = {}
    for name in checkpoint:
        short = name.removeprefix(prefix)
        if short in stored:
            raise CheckpointError(
                f"{checkpoint.file_of(name)}: the tensor {short!r} is there twice, "
                f"as {stored[short]!r} and {name!r}."
            )
        stored[short] = name
    wanted = {row.theirs for row in rows.values()}
    missing = sorted(wanted - stored.keys())
    left_over = sorted(name for name in stored.keys() - wanted if not re.fullmatch(ignored, name))
    if missing or left_over:
        faults = [f"it lacks {_listed(missing)}"] if missing else []
        faults += [f"it has {_listed(left_over)}, which this architecture does not know"] if left_over else []
        raise CheckpointError(
            f"{_where(checkpoint)}: the weights do not fit config.json: {'; '.join(faults)}.\n"
            "The files are of another model or incomplete; check model_type and the sizes, or download again."
        )
    arrays: dict[str, NDArray | NarrowMatrix] = {}
    taken: tuple[str, NDArray] = "", np.empty(0)
    for ours, row in rows.items():
        name = stored[row.theirs]
        expected = shape_of(row.stored, sizes)
        if checkpoint[name].shape != expected:
            raise CheckpointError(
                f"{checkpoint.file_of(name)}: tensor {name!r} has shape {checkpoint[name].shape}, "
                f"the config asks for {expected}.\n"
                "The file and config.json are of different models; download both again."
            )
        as_bits = checkpoint.element_type(name) == "BF16" and row.is_matrix and dtype in ("auto", "bfloat16")
        if taken[0] != name:  # the experts of one tensor follow each other: it is converted once
            taken = name, checkpoint[name] if as_bits else checkpoint.float32(name)
        array = taken[1] if row.part is None else _part(taken[1], row, sizes)
        if as_bits:
            matrix: NDArray | NarrowMatrix = Bfloat16Matrix(array)
        elif row.is_matrix and dtype != "auto":
            matrix = _in_type(dtype, array, by_rows=row.turned or ours.startswith("embedding."))
        else:
            matrix = array
        arrays[ours] = matrix.T if row.turned else matrix
    return arrays


def _part(experts: NDArray, row: Row, sizes: Mapping[str, int]) -> NDArray:
    """Take one expert's share of a tensor that holds all: a view, as it is stored."""
    shape = shape_of(row.used[::-1] if row.turned else row.used, sizes)
    one: NDArray = experts.reshape(-1, *shape)[row.part]
    return one


def _in_type(dtype: str, matrix: NDArray[np.float32], by_rows: bool) -> NDArray | NarrowMatrix:
    """Convert a float32 matrix.

    by_rows  whether each row, rather than each column, belongs to one output or is looked up by itself
    """
    if dtype == "float32":
        return matrix
    if dtype == "bfloat16":
        return Bfloat16Matrix(narrow(matrix))
    values, scales = quantise(matrix, axis=1 if by_rows else 0)
    return Int8Matrix(values, scales, by_rows=by_rows)


def _where(checkpoint: Checkpoint) -> str:
    return str(next((checkpoint.file_of(name).parent for name in checkpoint), "An empty checkpoint"))


def _listed(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more tensors"
