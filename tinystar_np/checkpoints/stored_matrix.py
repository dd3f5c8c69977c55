"""Making a matrix from the tensors of a checkpoint that hold it.

    packed in several tensors   checkpoints/packed_tensor.py
    float32, float16, float64   NAME               numbers
    bfloat16                    NAME               16 bits each
    int8                        NAME, NAME_scale   whole numbers (out, in), a scale per output (out, 1);
                                                   or (in, out) and (1, out)

The last is what the compressed-tensors package calls "int-quantized" (checkpoints/compressed_tensors.py).
bfloat16 and int8 are used as they are in the mapped file, without a copy. Everything else is converted to
float32, or to the narrower type that ``load`` is asked for.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.compressed_tensors import SCALE
from tinystar_np.checkpoints.element_types import WEIGHT_TYPES, to_float32
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.packed_tensor import Packed, PackedTensor
from tinystar_np.checkpoints.weight_table import Row
from tinystar_np.errors import CheckpointError
from tinystar_np.fast import layout
from tinystar_np.kernels.linear import Matrix, unpacked
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix

ROUNDED = ("bfloat16", "int8")
"""The types that float32 can be rounded to."""


class Stored(NamedTuple):
    """A tensor, or a part of one, in the order of its file.

    values  float32; or as in the file: bfloat16's bits (uint16), or int8
    scales  for int8 the scale of each value, in the shape of ``values``; None otherwise
    """

    values: NDArray
    scales: NDArray[np.float32] | None = None

    def part(self, take: Callable[[NDArray], NDArray]) -> "Stored":
        """Return a part of the values, with its scales."""
        return self._replace(
            values=take(self.values), scales=None if self.scales is None else take(self.scales)
        )

    def float32(self, element_type: str, where: str) -> "Stored":
        """Return the numbers as float32; arguments as of ``to_float32``."""
        if self.scales is not None:
            return Stored(self.values.astype(np.float32) * self.scales)
        return Stored(to_float32(self.values, element_type, where))


def is_int8(checkpoint: Checkpoint, name: str) -> bool:
    """Say whether a tensor is a matrix of 8-bit numbers with scales beside it."""
    stored_so = checkpoint.element_type(name) == "I8" and len(checkpoint.shape(name)) == 2
    return stored_so and name + SCALE in checkpoint


def is_scale(checkpoint: Checkpoint, name: str) -> bool:
    """Say whether a tensor holds the scales of another."""
    scaled = name.removesuffix(SCALE)
    return scaled != name and scaled in checkpoint and is_int8(checkpoint, scaled)


def keeps_type(checkpoint: Checkpoint, name: str, dtype: str, by_rows: bool) -> bool:
    """Say whether a matrix keeps the type that it has in the file.

    dtype    see ``load``
    by_rows  whether each row, and not each column, belongs to one output, or to one token of a table
    """
    if is_int8(checkpoint, name):
        rows, columns = checkpoint.shape(name)
        scales_lie_so = checkpoint.shape(name + SCALE) == ((rows, 1) if by_rows else (1, columns))
        return scales_lie_so and dtype in ("auto", "int8")
    return checkpoint.element_type(name) == "BF16" and dtype in ("auto", "bfloat16")


def taken_first(checkpoint: Checkpoint, name: str) -> bool:
    """Say whether a part of a tensor can be taken as it is stored, and converted then."""
    return is_int8(checkpoint, name) or checkpoint.element_type(name) in WEIGHT_TYPES


def read_stored(checkpoint: Checkpoint, name: str, as_it_lies: bool, whole: bool = False) -> Stored:
    """Read a tensor from a checkpoint, as float32 or, with ``as_it_lies``, as a view of the mapped file.

    whole  whether integers stand for themselves: small ones, which float32 has exactly

    Raises CheckpointError for an element type that cannot be read, or scales of another shape.
    """
    if whole and checkpoint.element_type(name)[0] in "IU":
        return Stored(checkpoint[name].astype(np.float32))
    if not is_int8(checkpoint, name):
        return Stored(checkpoint[name] if as_it_lies else checkpoint.float32(name))
    rows, columns = checkpoint.shape(name)
    found = checkpoint.shape(name + SCALE)
    if found not in ((rows, 1), (1, columns)):
        raise CheckpointError(
            f"{checkpoint.file_of(name)}: tensor {shown(name + SCALE)} has shape {shown(found)}, "
            f"but {shown(name)} needs a scale for each row or column: {(rows, 1)} or {(1, columns)}.\n"
            "Only 8 bits with a scale per output are read: use the original model."
        )
    values, scales = checkpoint[name], checkpoint.float32(name + SCALE)
    if as_it_lies:
        return Stored(values, np.broadcast_to(scales, values.shape))
    return Stored(values.astype(np.float32) * scales)


def matrix_as_stored(stored: Stored, transposed: bool, is_table: bool) -> Matrix:
    """Make a matrix, or a vector, in the stored type.

    transposed  whether the file has (out, in)
    is_table    whether it is an embedding table, whose rows are looked up
    """
    values, scales = stored
    if scales is not None:
        if transposed == is_table:  # the file has a column for each scale
            values, scales = values.T, scales.T
        return Int8Matrix(values, np.ascontiguousarray(scales[:, 0]), table=is_table)
    if values.dtype == np.uint16:
        return Bfloat16Matrix(values, transposed)
    return values.T if transposed else values


Strip = Callable[[slice], NDArray[np.float32]]
"""Returns the weights of some outputs of a matrix (some, in), or those of some rows of a table."""
STRIP = 1 << 22
"""Weights that are rounded at once. All at once, the float32 of a large output layer that the file has in
bfloat16 would be the most that loading ever takes."""


def rounded_matrix(
    numbers: Strip, shape: tuple[int, ...], is_table: bool, dtype: str, whole: Strip | None = None
) -> PackedMatrix:
    """Round a matrix to "int8" or "bfloat16", in memory.

    numbers     its weights
    shape       (out, in), or that of a table
    is_table    whether it is an embedding table, whose rows are looked up: then each row has a scale
    whole       the weights of all inputs, where it has some of them: so it is rounded as the whole is
    """
    rows = max(1, STRIP // max(1, shape[1]))
    strips = [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]
    if dtype == "bfloat16":
        bits = np.empty(shape, np.uint16)
        for some in strips:
            bits[some] = fast.to_bfloat16(numbers(some))
        return Bfloat16Matrix(bits, transposed=not is_table)
    values, scales = np.empty(shape, np.int8), np.empty(shape[0], np.float32)
    for some in strips:
        of_whole = None if whole is None else whole(some)
        values[some], scales[some] = fast.quantise(numbers(some), of_whole)
    return Int8Matrix(values, scales, table=is_table)


def packed_matrices(tensor: PackedTensor, rows: Sequence[Row], dtype: str) -> dict[str, Matrix]:
    """Make the matrices that are taken from a packed tensor.

    rows   the rows of the weight table that name it
    dtype  see ``load``: with "auto" they stay packed

    Returns {our name: matrix}. What is no matrix of a linear layer is unpacked.
    """
    read = cache(tensor.read)  # it may have to put the codes into order
    found: dict[str, Matrix] = {}
    for row in rows:
        part = _part(read, len(tensor.shape), row)
        if row.is_matrix and dtype in ROUNDED:
            whole = None
            if row.has_some_inputs:
                whole = _strips(_part(read, len(tensor.shape), row.with_all_inputs), row)
            shape = row.shape if row.is_table else row.shape[::-1]
            found[row.ours] = rounded_matrix(_strips(part, row), shape, row.is_table, dtype, whole)
        else:
            keeps = row.is_matrix and dtype == "auto"
            matrix = part if keeps else np.ascontiguousarray(unpacked(part))
            if row.undivided is not None:
                matrix = layout.compact_matrix(matrix)
            found[row.ours] = matrix.T if row.transposed else matrix
    return found


def _strips(matrix: PackedMatrix, row: Row) -> Strip:
    """Unpack a matrix that a row names, which is in the order of the file."""
    numbers = unpacked(matrix)
    by_output = numbers if row.has_outputs_first else numbers.T
    return lambda some: by_output[some]


def _part(read: Callable[[int | None], Packed], axes: int, row: Row) -> PackedMatrix:
    """Return what a row names of a packed tensor, in the order of the file's axes."""
    cuts = [*row.part, *(slice(None) for _ in row.block[len(row.part) :])]
    if axes == 3:  # the first axis counts the experts
        matrix = read(row.expert)
    else:
        matrix = read(None)
        if row.expert is not None:  # they lie one below the other
            assert isinstance(cuts[0], slice)
            start, stop, _ = cuts[0].indices(row.block[0])
            above = row.expert * row.block[0]
            cuts[0] = slice(above + start, above + stop)
    by_rows, by_columns = cuts[::-1] if matrix.transposed else cuts
    return matrix.part(by_rows, by_columns)
