"""A model's tensors into safetensors files of at most 5 GB, each tensor made when its turn comes.

    8 bytes: length of the header | the header, JSON: {name: {dtype, shape, data_offsets}} | the numbers

The safetensors package wants all tensors of a file in memory at once. Types and shapes are known before the
numbers are, and nothing else stands in the header: so here one tensor at a time is in memory.
Format: https://github.com/huggingface/safetensors, "Format".
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.element_types import STORAGE_TYPES
from tinystar_np.checkpoints.model_files import INDEX_FILE, SINGLE_FILE

LARGEST_SHARD = 5_000_000_000  # bytes, as transformers' save_pretrained
ALIGNMENT = 8  # bytes: no element that is stored is wider


class Tensor(NamedTuple):
    """A tensor that can be made.

    element_type  as safetensors files name it: "F32", "BF16", "I8"
    make          returns the numbers, of the NumPy type that ``STORAGE_TYPES`` has for that
    """

    element_type: str
    shape: tuple[int, ...]
    make: Callable[[], NDArray]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in a file."""
        return prod(self.shape) * STORAGE_TYPES[self.element_type].itemsize


def write_shards(
    directory: Path,
    tensors: Mapping[str, Tensor],
    written: Callable[[str], object],
    largest: int = LARGEST_SHARD,
) -> None:
    """Write model.safetensors; or, where that would be too large, several files and their index.

    tensors  are made in their order
    written  is called with the name of each that is in its file
    largest  bytes of the tensors in a file; one that is larger by itself has its own

    Raises OSError where a file cannot be written.
    """
    shards = _divided(tensors, largest)
    if len(shards) == 1:
        _write(directory / SINGLE_FILE, shards[0], tensors, written)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write(directory / file, names, tensors, written)
        weight_map |= dict.fromkeys(names, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _divided(tensors: Mapping[str, Tensor], largest: int) -> list[list[str]]:
    """Divide the names of tensors among files, in their order."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > largest:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _write(
    path: Path, names: Sequence[str], tensors: Mapping[str, Tensor], written: Callable[[str], object]
) -> None:
    """Write one file; wide elements come first in it, so that each tensor is aligned."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers wants to read this
    begins: dict[str, int] = {}
    end = 0
    for name in sorted(names, key=lambda name: -STORAGE_TYPES[tensors[name].element_type].itemsize):
        tensor = tensors[name]
        begins[name], end = end, end + tensor.nbytes
        offsets = begins[name], end
        header[name] = {"dtype": tensor.element_type, "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        data = file.tell()
        for name in names:
            numbers = tensors[name].make().astype(STORAGE_TYPES[tensors[name].element_type], copy=False)
            file.seek(data + begins[name])
            file.write(np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data)
            del numbers  # before the next is made
            written(name)
        file.flush()
        os.fsync(file.fileno())  # some disks say only now that they are full
