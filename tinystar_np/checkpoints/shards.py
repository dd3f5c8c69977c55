"""A model's tensors into safetensors files of at most 5 GB, each tensor made when its turn comes."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tinystar_np.checkpoints.model_files import INDEX_FILE, SINGLE_FILE
from tinystar_np.checkpoints.safetensors_writer import Tensor, write_tensors

LARGEST_SHARD = 5_000_000_000  # bytes, as transformers' save_pretrained


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
    with path.open("xb") as file:
        # transformers wants to read this format's name.
        write_tensors(file, {name: tensors[name] for name in names}, {"format": "pt"}, written)
        file.flush()
        os.fsync(file.fileno())  # some disks say only now that they are full
