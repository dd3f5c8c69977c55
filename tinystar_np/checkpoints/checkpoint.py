"""All tensors of a model as one read-only mapping from name to array, whether in one file or in many."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.model_files import instead_of_weights
from tinystar_np.checkpoints.safetensors_file import SafetensorsFile
from tinystar_np.checkpoints.shard_index import INDEX_FILE, SINGLE_FILE, read_index
from tinystar_np.errors import CheckpointError


class Checkpoint(Mapping[str, NDArray[Any]]):
    """The tensors of one or more safetensors files; arrays are views in the stored type (BF16 as uint16)."""

    def __init__(self, files: list[SafetensorsFile], absent: Mapping[str, Path] | None = None) -> None:
        """Join the files.

        absent  tensors that the index names though its file does not hold them: {name: that file}

        Raises CheckpointError if two of them hold a tensor of the same name.
        """
        self.absent = absent or {}
        self._places: dict[str, tuple[SafetensorsFile, str]] = {}  # its name in the file may be another
        for file in files:
            for name in file.names:
                if name in self._places:
                    raise CheckpointError(
                        f"{file.path}: tensor {shown(name)} is also in {self.file_of(name).name}.\n"
                        "The files are of different models; download them again."
                    )
                self._places[name] = file, name
        self.files = [file.path for file in files]
        self.nbytes = sum(file.nbytes for file in files)

    def __getitem__(self, name: str) -> NDArray[Any]:
        file, stored = self._places[name]
        return file.array(stored)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        # Mapping's own test would build the array first.
        return name in self._places

    def file_of(self, name: str) -> Path:
        """Path of the file that holds a tensor."""
        return self._places[name][0].path

    def name_in_file(self, name: str) -> str:
        """Name of a tensor in its file."""
        return self._places[name][1]

    def element_type(self, name: str) -> str:
        """Type of a tensor as its file names it, such as "F32" or "BF16"."""
        file, stored = self._places[name]
        return file.element_type(stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        file, stored = self._places[name]
        return file.shape(stored)

    def float32(self, name: str) -> NDArray[np.float32]:
        """Give a tensor as float32: a view of the file if it is stored so, else a converted copy.

        Raises KeyError for an unknown name, CheckpointError for a type that is none of weights.
        """
        return to_float32(self[name], self.element_type(name), f"{self.file_of(name)}: tensor {shown(name)}")

    def blocks(self, name: str, most: int) -> Iterator[NDArray[Any]]:
        """Give a tensor's elements in the stored type, flat and at most so many at a time."""
        file, stored = self._places[name]
        return file.blocks(stored, most)

    def let_go(self, name: str) -> None:
        """Let the system take the memory of a tensor's file here; what is read again comes back."""
        self._places[name][0].let_go()

    def by_other_names(self, rename: Callable[[str], str | None]) -> dict[str, str]:
        """Rename tensors, those for which ``rename`` returns None left out: {the other name: the name here}.

        Raises CheckpointError if two get the same name.
        """
        names: dict[str, str] = {}
        for name in self:
            other = rename(name)
            if other in names:
                raise CheckpointError(
                    f"{self.file_of(name)}: the tensor {shown(other)} is there twice, "
                    f"as {shown(names[other])} and {shown(name)}.\nThe file is damaged: download it again."
                )
            if other is not None:
                names[other] = name
        return names

    def renamed(self, rename: Callable[[str], str | None]) -> "Checkpoint":
        """Give the tensors under other names, as ``by_other_names`` does, and raise as it does."""
        other = copy(self)
        other._places = {new: self._places[name] for new, name in self.by_other_names(rename).items()}
        absent = ((rename(name), file) for name, file in self.absent.items())
        other.absent = {name: file for name, file in absent if name is not None}
        return other


def open_checkpoint(directory: Path) -> Checkpoint:
    """Open the weights of a model: its model.safetensors, or the shards that its index names.

    directory  the directory that holds them

    Returns the mapping; no tensor is read yet. Raises CheckpointError if the files are missing, damaged, or
    not of one model.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such directory.")
    single = (directory / SINGLE_FILE).exists()
    if not single and not (directory / INDEX_FILE).exists():
        for name in (SINGLE_FILE, INDEX_FILE):
            if (directory / name).is_symlink():  # to nothing, or in a circle, which is told there
                file_inside(directory, name)
        there, what_to_do = instead_of_weights(path.name for path in directory.iterdir())
        raise CheckpointError(f"{directory}: has {there}.\n{what_to_do}")
    index = {} if single else read_index(directory)
    names = sorted(set(index.values())) or [SINGLE_FILE]
    files = [SafetensorsFile(file_inside(directory, name)) for name in names]
    held = {tensor for file in files for tensor in file.names}
    absent = {tensor: directory / name for tensor, name in index.items() if tensor not in held}
    checkpoint = Checkpoint(files, absent)
    for tensor, file_name in index.items():
        if tensor in held and checkpoint.file_of(tensor).name != file_name:
            raise not_held(tensor, directory / file_name)
    return checkpoint


def not_held(tensor: str, file: Path) -> CheckpointError:
    """Say that a file does not hold what the index says; to be raised where the tensor is needed."""
    return CheckpointError(
        f"{file}: has no tensor {shown(tensor)}, but {INDEX_FILE} says so.\n"
        "The files are of different models; download them again."
    )
