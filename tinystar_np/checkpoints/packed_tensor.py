"""Packed tensors: a matrix that a checkpoint has in several tensors, such as codes, scales and zero points.

In a checkpoint it takes the place of its parts, under the name and with the shape that the matrix has where
it is not packed. What the parts mean is said in one small file for each format (checkpoints/packed_*.py).
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.errors import CheckpointError
from tinystar_np.fast.mapped import let_go
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import Code
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns
from tinystar_np.kernels.packed import TernaryMatrix

if TYPE_CHECKING:
    from tinystar_np.checkpoints.gguf_file import GgufTensor

Shape = tuple[int, ...]
Packed = CodedMatrix | BlockMatrix | MatrixInTurns | TernaryMatrix
FLOATS = ("F32", "F16", "BF16")


class PackedTensor(NamedTuple):
    """A matrix, or one for each expert, in packed parts.

    path          of the file that holds the codes
    name          of the matrix, as it would be where it is not packed
    element_type  what the codes are, such as "MXFP4"
    shape         (rows, columns), or (E, rows, columns)
    parts         the tensors in the file
    read          returns the matrix, or that of an expert, as it is multiplied from the right in this shape;
                  it may take the memory of a copy, and raises CheckpointError for damaged codes
    """

    path: Path
    name: str
    element_type: str
    shape: Shape
    parts: "tuple[StoredTensor | GgufTensor, ...]"
    read: Callable[[int | None], Packed]

    def array(self) -> NDArray[np.float32]:
        """Unpack all of it: float32, in memory."""
        if len(self.shape) == 2:
            return unpacked(self.read(None))
        return np.stack([unpacked(self.read(e)) for e in range(self.shape[0])])

    def with_axes_exchanged(self) -> "PackedTensor":
        """Return the same matrix, or matrices, with rows and columns exchanged."""
        *experts, rows, columns = self.shape

        def read(expert: int | None) -> Packed:
            return self.read(expert).T

        return self._replace(shape=(*experts, columns, rows), read=read)

    def let_go(self) -> None:
        """Release the memory of its parts' pages in the mapped file."""
        for part in self.parts:
            let_go(part.memory)


class Parts:
    """The tensors of a checkpoint from which packed ones are put together, checked before they are read.

    tensors  {name: tensor}
    """

    def __init__(self, tensors: dict[str, StoredTensor]):
        self._tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def need(
        self, name: str, of: str, types: Collection[str], shapes: Collection[Shape] | None = None
    ) -> StoredTensor:
        """Return a part of a packed matrix.

        name    of the part
        of      the part that was there first, for the message
        types   the element types that it may have
        shapes  the shapes that it may have; None for any

        Raises CheckpointError where it is missing, or of another type or shape.
        """
        if name not in self:
            raise CheckpointError(
                f"{self[of].path}: tensor {shown(of)} is packed and needs {shown(name)}, which is missing.\n"
                "The files are incomplete or of an unknown format: download them again."
            )
        tensor = self[name]
        if tensor.element_type not in types:
            raise _misfit(tensor, of, f"element type {tensor.element_type}", " or ".join(types))
        if shapes is not None and tensor.shape not in shapes:
            raise _misfit(tensor, of, f"shape {shown(tensor.shape)}", " or ".join(map(str, shapes)))
        return tensor


def _misfit(tensor: StoredTensor, of: str, found: str, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"{tensor.path}: tensor {shown(tensor.name)} has {found}, but {shown(of)} needs {wanted}.\n"
        "The file is damaged or of an unknown format: download it again."
    )


def rank(tensor: StoredTensor, axes: int) -> Shape:
    """Return a tensor's shape; raises CheckpointError where it has another number of axes."""
    if len(tensor.shape) != axes:
        raise CheckpointError(
            f"{tensor.path}: tensor {shown(tensor.name)} has shape {shown(tensor.shape)}, but in a packed "
            f"model it has {axes} axes.\nThe file is damaged or of an unknown format: download it again."
        )
    return tensor.shape


def damaged(tensor: StoredTensor, what: str) -> CheckpointError:
    """Return the error for a part whose content makes no sense: "its group_size …"."""
    return CheckpointError(
        f"{tensor.path}: tensor {shown(tensor.name)}: {what}.\n"
        "The file is damaged or does not fit config.json: download both again."
    )


def numbers(tensor: StoredTensor) -> NDArray:
    """Return scales as they lie, float32 or float16; bfloat16 as float32."""
    array = tensor.array()
    return to_float32(array, "BF16") if tensor.element_type == "BF16" else array


def scaled(
    codes: StoredTensor,
    scales: StoredTensor,
    code: Code,
    name: str,
    *,
    blocks: Collection[tuple[int, int]] = (),
    scale_code: Code | None = None,
    zeros: StoredTensor | None = None,
) -> PackedTensor:
    """Return the packed tensor of codes of 8 bits, one byte each, and their scales.

    codes       (rows, columns), or (E, rows, columns)
    scales      one number; or one for each row, or for each block, the last of which may be smaller; of all
                experts in a row, or one below the other
    code        what the codes stand for
    name        of the matrix
    blocks      rows and columns of blocks that there may be
    scale_code  what the scales stand for, where they are codes
    zeros       zero points in the shape of the scales, or None

    Raises CheckpointError where the scales have another shape.
    """
    if len(codes.shape) not in (2, 3):
        raise damaged(codes, f"it has {len(codes.shape)} axes, but a packed matrix has 2, or 3 with experts")
    experts, (rows, columns) = codes.shape[:-2], codes.shape[-2:]
    grids: dict[Shape, tuple[int, int]] = {(1, 1): (rows, columns), (rows, 1): (1, columns)}
    for height, width in blocks:
        grid = (-(-rows // height), -(-columns // width))
        grids[grid] = (min(height, max(rows, 1)), min(width, max(columns, 1)))
    shapes: dict[Shape, Shape] = {(*experts, *grid): grid for grid in grids}
    shapes |= {experts: (1, 1), (*experts, rows): (rows, 1)}
    if not experts:
        shapes[1,] = (1, 1)
    if scales.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise damaged(scales, f"its shape is {shown(scales.shape)}, but {shown(codes.name)} needs {wanted}")
    if zeros is not None and zeros.shape != scales.shape:
        raise damaged(zeros, f"its shape is {shown(zeros.shape)}, but that of the scales is {scales.shape}")
    lying = shapes[scales.shape]

    def read(expert: int | None) -> CodedMatrix:
        def of_expert(array: NDArray) -> NDArray:
            return array if expert is None else array[expert]

        return CodedMatrix(
            of_expert(codes.array()).view(np.uint8),
            code,
            of_expert(numbers(scales)).reshape(lying),
            block=grids[lying],
            scale_code=scale_code,
            zeros=None if zeros is None else of_expert(zeros.array()).reshape(lying),
        )

    parts = (codes, scales) if zeros is None else (codes, scales, zeros)
    kind = "8-bit integers" if codes.element_type == "I8" else "FP8"
    return PackedTensor(codes.path, name, kind, codes.shape, parts, read)
