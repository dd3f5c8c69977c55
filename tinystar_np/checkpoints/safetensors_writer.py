"""Writing a safetensors file, one tensor after the other.

    8 bytes: length of the header | the header, JSON: {name: {dtype, shape, data_offsets}} | the numbers

The safetensors package needs all tensors of a file in memory at once, and copies them twice. The header has
only types and shapes, which are known beforehand: so here each tensor is made when it is written, and writing
takes little memory.
Format: https://github.com/huggingface/safetensors, "Format".
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.element_types import CODE_TYPES, STORAGE_TYPES

ALIGNMENT = 8  # bytes: the size of the largest element type
OF_ARRAYS = {kind: name for name, kind in STORAGE_TYPES.items() if name != "BF16" and name not in CODE_TYPES}
"""The names of arrays' element types in files; uint16 is U16 and not BF16."""


class Tensor(NamedTuple):
    """A tensor to be written, and a function that makes it.

    element_type  as safetensors files name it: "F32", "BF16", "I8"
    make          returns the numbers, in the type of ``STORAGE_TYPES``
    """

    element_type: str
    shape: tuple[int, ...]
    make: Callable[[], NDArray]

    @property
    def nbytes(self) -> int:
        """Its bytes in a file."""
        return prod(self.shape) * STORAGE_TYPES[self.element_type].itemsize


def write_tensors(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    written: Callable[[str], object],
) -> None:
    """Write tensors, made in their order, to a file that is open for writing.

    metadata  {key: text} for the header
    written   called with the name of each tensor after it was written
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begins: dict[str, int] = {}
    end = 0
    # Wide elements come first in the file, so that each tensor is aligned.
    for name in sorted(tensors, key=lambda name: -STORAGE_TYPES[tensors[name].element_type].itemsize):
        tensor = tensors[name]
        begins[name], end = end, end + tensor.nbytes
        offsets = begins[name], end
        header[name] = {"dtype": tensor.element_type, "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    data = file.tell()
    for name, tensor in tensors.items():
        numbers = tensor.make().astype(STORAGE_TYPES[tensor.element_type], copy=False)
        file.seek(data + begins[name])
        file.write(np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data)
        del numbers  # before the next is made
        written(name)


def write_arrays(file: BinaryIO, arrays: Mapping[str, NDArray], metadata: Mapping[str, str]) -> None:
    """Write arrays by name, and metadata, to a file that is open for writing."""
    tensors = {
        name: Tensor(OF_ARRAYS[array.dtype.newbyteorder("<")], array.shape, partial(np.asarray, array))
        for name, array in arrays.items()
    }
    write_tensors(file, tensors, metadata, lambda name: None)
