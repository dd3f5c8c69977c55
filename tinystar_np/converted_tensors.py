"""The tensors of a converted model: which of them change their type, into what, and under which names.

    float32    NAME                                  float32
    bfloat16   NAME                                  bfloat16
    int8       NAME.weight, NAME.weight_scale        checkpoints/compressed_tensors.py
    mxfp4      NAME.weight_packed, .weight_scale     checkpoints/packed_compressed.py
               NAME_blocks, NAME_scales              of gpt-oss: checkpoints/packed_mxfp4.py

All are made when they are written, one after the other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.compressed_tensors import SCALE
from tinystar_np.checkpoints.element_types import STORAGE_TYPES, WEIGHT_TYPES, to_float32
from tinystar_np.checkpoints.packed_compressed import PACKED
from tinystar_np.checkpoints.packed_mxfp4 import CODES, EXPONENTS
from tinystar_np.checkpoints.safetensors_writer import Tensor
from tinystar_np.checkpoints.stored_matrix import is_int8, is_scale, read_stored
from tinystar_np.checkpoints.weight_table import HEAD, Row
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.mxfp4 import BLOCK, to_mxfp4

ELEMENT_TYPES = {"int8": "I8", "mxfp4": "MXFP4", "bfloat16": "BF16", "float32": "F32"}
WEIGHT = ".weight"
"""The ending of the names of linear layers' tensors."""
EXPERTS_IN_MXFP4 = "gpt_oss"
"""The one architecture whose experts transformers reads in MXFP4, a tensor for all of them together."""


class NewTensor(NamedTuple):
    """A tensor to be written.

    tensor      its type and shape, and what makes it
    source      name of the tensor in the checkpoint that it is made of
    weights     how many weights it holds; 0 for scales
    is_of_type  whether these are of the type that was asked for
    """

    tensor: Tensor
    source: str
    weights: int
    is_of_type: bool


Numbers = Callable[[], NDArray[np.float32]]
Named = tuple[str, NewTensor]


def type_of(rows: Sequence[Row], dtype: str, model_type: str) -> str | None:
    """Return the element type that the tensor of these rows of the weight table is converted to.

    dtype  of ``ELEMENT_TYPES``

    None stands for what stays as it is: vectors, and what the narrow types' formats have no place for.
    """
    if not all(row.is_matrix for row in rows):
        return None
    if dtype in ("bfloat16", "float32"):
        return ELEMENT_TYPES[dtype]
    if dtype == "mxfp4" and model_type == EXPERTS_IN_MXFP4:
        return "MXFP4" if all(row.expert is not None and _fits(row.block[0]) for row in rows) else "BF16"
    is_linear = all(
        (row.is_by_rows or not row.part)
        and not row.is_table
        and len(row.stored) == 2
        and row.theirs.endswith(WEIGHT)
        for row in rows
    )
    if dtype == "int8":
        return "I8" if is_linear else None
    # The output layer chooses among all tokens: it keeps more bits, as in gpt-oss.
    fits = is_linear and all(_fits(row.stored[1]) and row.ours != HEAD for row in rows)
    return "MXFP4" if fits else "BF16"


def _fits(columns: int) -> bool:
    return columns % BLOCK == 0


def new_tensors(
    checkpoint: Checkpoint, types: Mapping[str, str], by_columns: Set[str], dtype: str
) -> Iterator[Named]:
    """Yield what is written: (name, tensor), scales after what they scale.

    types       {name of a tensor that is converted: its new element type}
    by_columns  names of those that have a column, and not a row, for each output
    dtype       of ``ELEMENT_TYPES``
    """
    wanted = ELEMENT_TYPES[dtype]
    for name in checkpoint:
        element_type, shape = checkpoint.element_type(name), checkpoint.shape(name)
        new_type = types.get(name)
        if is_scale(checkpoint, name):
            if dtype == "int8":  # so that what it scales stays, too
                yield name, NewTensor(_as_it_is(checkpoint, name, dtype), name, 0, False)
        elif new_type == "I8" and element_type != "I8":
            yield from _int8(checkpoint, name, name in by_columns)
        elif new_type == "MXFP4":
            yield from _mxfp4(checkpoint, name)
        else:
            if dtype == "float32" and element_type in WEIGHT_TYPES:
                new_type = "F32"  # vectors, too
            tensor = _plain(checkpoint, name, new_type, dtype)
            yield name, NewTensor(tensor, name, prod(shape), tensor.element_type == wanted)


def _plain(checkpoint: Checkpoint, name: str, new_type: str | None, dtype: str) -> Tensor:
    """Return a tensor as bfloat16 or float32, or as it was."""
    shape, numbers = checkpoint.shape(name), partial(_float32, checkpoint, name)
    if new_type == "BF16" and checkpoint.element_type(name) != "BF16":
        return Tensor("BF16", shape, partial(_bfloat16, numbers))
    if new_type == "F32" or (dtype != "int8" and is_int8(checkpoint, name)):
        return Tensor("F32", shape, numbers)
    return _as_it_is(checkpoint, name, dtype)


def _as_it_is(checkpoint: Checkpoint, name: str, dtype: str) -> Tensor:
    """Return a tensor as it was; what is packed, in a type in which it is exact: nothing stays packed."""
    element_type, shape = checkpoint.element_type(name), checkpoint.shape(name)
    numbers = partial(_float32, checkpoint, name)
    if checkpoint.packed(name) is None and element_type in STORAGE_TYPES:
        return Tensor(element_type, shape, partial(checkpoint.__getitem__, name))
    if element_type == "MXFP4" and dtype != "float32":
        return Tensor("BF16", shape, partial(_bfloat16, numbers))
    return Tensor("F32", shape, numbers)


def _int8(checkpoint: Checkpoint, name: str, by_columns: bool) -> Iterator[Named]:
    shape = checkpoint.shape(name)

    def make() -> tuple[NDArray, NDArray]:
        numbers = _float32(checkpoint, name)
        values, scales = fast.quantise(numbers.T if by_columns else numbers)
        return (values.T, scales[None]) if by_columns else (values, scales[:, None])

    rounded = _Rounded(make)
    yield name, NewTensor(Tensor("I8", shape, rounded.values), name, prod(shape), True)
    scales = (1, shape[1]) if by_columns else (shape[0], 1)
    yield name + SCALE, NewTensor(Tensor("F32", scales, rounded.scales), name, 0, False)


def _mxfp4(checkpoint: Checkpoint, name: str) -> Iterator[Named]:
    """Yield codes and exponents: of all experts as gpt-oss has them, else as compressed-tensors."""
    shape, weights = checkpoint.shape(name), prod(checkpoint.shape(name))
    if len(shape) == 2:
        codes_shape: tuple[int, ...] = (shape[0], shape[1] // 2)
        scales_shape: tuple[int, ...] = (shape[0], shape[1] // BLOCK)
        rounded = _Rounded(lambda: to_mxfp4(_float32(checkpoint, name)))
        names = name.removesuffix(WEIGHT) + PACKED, name + SCALE
    else:
        experts, inputs, outputs = shape
        scales_shape = (experts, outputs, inputs // BLOCK)
        codes_shape = (*scales_shape, BLOCK // 2)
        rounded = _Rounded(partial(_experts_in_mxfp4, checkpoint, name, codes_shape))
        names = name + CODES, name + EXPONENTS
    yield names[0], NewTensor(Tensor("U8", codes_shape, rounded.values), name, weights, True)
    yield names[1], NewTensor(Tensor("U8", scales_shape, rounded.scales), name, 0, False)


def _experts_in_mxfp4(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Round the matrices (in, out) of all experts, of which one at a time is in memory as float32.

    shape  of the codes, (E, out, in / 32, 16)

    Returns the codes and the exponents.
    """
    codes, exponents = np.empty(shape, np.uint8), np.empty(shape[:-1], np.uint8)
    packed = checkpoint.packed(name)
    for e in range(shape[0]):
        if packed is None:
            numbers = to_float32(checkpoint[name][e], checkpoint.element_type(name))
        else:
            numbers = unpacked(packed.read(e))
        some, exponents[e] = to_mxfp4(np.ascontiguousarray(numbers.T))
        codes[e] = some.reshape(shape[1:])
    return codes, exponents


class _Rounded:
    """A matrix to be rounded; its scales are kept until they are written, after its values."""

    def __init__(self, make: Callable[[], tuple[NDArray, NDArray]]) -> None:
        self._make = make
        self._scales = np.empty(0)

    def values(self) -> NDArray:
        """Round the matrix."""
        values, self._scales = self._make()
        return values

    def scales(self) -> NDArray:
        """Return the scales of the values that were made."""
        return self._scales


def _float32(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    return read_stored(checkpoint, name, as_it_lies=False).values


def _bfloat16(numbers: Numbers) -> NDArray[np.uint16]:
    return fast.to_bfloat16(numbers())
