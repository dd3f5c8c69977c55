"""A checkpoint: all tensors of a model as one read-only mapping from name to array, from one file or many."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.mlx_layout import as_in_pytorch
from tinystar_np.checkpoints.model_files import INDEX_FILE, SINGLE_FILE, instead_of_weights, read_index
from tinystar_np.checkpoints.packed_tensor import PackedTensor, Parts
from tinystar_np.checkpoints.safetensors_file import StoredTensor, map_safetensors
from tinystar_np.errors import CheckpointError

if TYPE_CHECKING:
    from tinystar_np.checkpoints.gguf_header import GgufTensor


class Checkpoint(Mapping[str, NDArray]):
    """The tensors of one or more safetensors files; arrays are views in the stored type (BF16 as uint16).

    files   paths of the files
    nbytes  of all tensors together
    absent  tensors that the index names though its file does not hold them: {name: that file}
    unused  names of tensors that are left out, as nothing here computes with them
    """

    def __init__(self, files: list[Path], index: Mapping[str, Path]) -> None:
        """Join the files.

        index  the file of each tensor, from the model's index; {} for a single file

        Raises CheckpointError if a file is damaged, two hold a tensor of the same name, or a tensor is in
        another file than the index says.
        """
        self.files = files
        self.nbytes = 0
        self.unused: Collection[str] = ()
        self._tensors: dict[str, StoredTensor | PackedTensor] = {}
        for path in files:
            tensors = as_in_pytorch(map_safetensors(path))
            twice = next((name for name in tensors if name in self._tensors), None)
            if twice is not None:
                raise CheckpointError(
                    f"{path}: tensor {shown(twice)} is also in {self.file_of(twice).name}.\n"
                    "The files are of different models; download them again."
                )
            self._tensors |= tensors
            self.nbytes += sum(tensor.memory.nbytes for tensor in tensors.values())
        self.absent = {name: path for name, path in index.items() if name not in self._tensors}
        for name, path in index.items():
            if name in self._tensors and self.file_of(name) != path:
                raise not_held(name, path)

    def __getitem__(self, name: str) -> NDArray:
        return self._tensors[name].array()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        # Mapping's own test would build the array first.
        return name in self._tensors

    def file_of(self, name: str) -> Path:
        """Path of the file that holds a tensor."""
        return self._tensors[name].path

    def name_in_file(self, name: str) -> str:
        """Name of a tensor in its file."""
        return self._tensors[name].name

    def element_type(self, name: str) -> str:
        """Type of a tensor as its file names it, such as "F32" or "BF16"."""
        return self._tensors[name].element_type

    def types(self) -> dict[str, int]:
        """Count the files' tensors of each element type."""
        return Counter(map(self.element_type, self))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._tensors[name].shape

    def nbytes_of(self, name: str) -> int:
        """Bytes that a tensor takes in its file."""
        return sum(part.memory.nbytes for part in self.in_file(name))

    def fingerprint(self) -> str:
        """Tell these tensors from others by their names, types, shapes and a few numbers of each."""
        sums = sha256()
        for name in sorted(self):
            for part in self.in_file(name):
                numbers = part.memory
                sums.update(f"{name} {part.name} {part.element_type} {part.shape} ".encode())
                for start in (0, numbers.size // 2, max(0, numbers.size - 32)):
                    sums.update(numbers[start : start + 32].tobytes())
        return sums.hexdigest()

    def in_file(self, name: str) -> "Sequence[StoredTensor | GgufTensor]":
        """Return what a tensor is made of in its file: itself, or its packed parts."""
        tensor = self._tensors[name]
        return tensor.parts if isinstance(tensor, PackedTensor) else [tensor]

    def packed(self, name: str) -> PackedTensor | None:
        """Return a tensor that is packed in several, None for any other."""
        tensor = self._tensors[name]
        return tensor if isinstance(tensor, PackedTensor) else None

    def parts(self) -> Parts:
        """Return the tensors as they are in the files, from which packed ones can be put together."""
        return Parts({name: each for name, each in self._tensors.items() if isinstance(each, StoredTensor)})

    def with_packed(self, packed: Iterable[PackedTensor], unused: Collection[str]) -> "Checkpoint":
        """Return the checkpoint with packed tensors in the places of their parts, without the unused ones."""
        other = copy(self)
        found = {tensor.name: tensor for tensor in packed}
        gone = {part.name for tensor in found.values() for part in tensor.parts}.union(unused)
        kept = {name: tensor for name, tensor in self._tensors.items() if name not in gone}
        other._tensors = {**kept, **found}
        other.unused = unused
        return other

    def float32(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as float32: a view of the file if it is stored so, else a converted copy.

        Raises KeyError for an unknown name, CheckpointError for a type other than those of weights.
        """
        if self.packed(name) is not None:
            return self[name]
        return to_float32(self[name], self.element_type(name), f"{self.file_of(name)}: tensor {shown(name)}")

    def blocks(self, name: str, most: int) -> Iterator[NDArray]:
        """Yield a tensor's elements in the stored type, as flat arrays of at most ``most``."""
        tensor = self._tensors[name]
        elements = tensor.elements() if isinstance(tensor, StoredTensor) else tensor.array().ravel()
        return (elements[i : i + most] for i in range(0, elements.size, most))

    def let_go(self, name: str) -> None:
        """Release the memory of a tensor's pages in the mapped file; they can be read again."""
        self._tensors[name].let_go()

    def by_other_names(self, rename: Callable[[str], str | None]) -> dict[str, str]:
        """Return {the other name: the name here}, without tensors for which ``rename`` returns None.

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
        """Return the checkpoint with renamed tensors; leaves out and raises as ``by_other_names`` does."""
        other = copy(self)
        other._tensors = {new: self._tensors[name] for new, name in self.by_other_names(rename).items()}
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
    if (directory / SINGLE_FILE).exists():
        return Checkpoint([file_inside(directory, SINGLE_FILE)], {})
    if not (directory / INDEX_FILE).exists():
        for name in (SINGLE_FILE, INDEX_FILE):
            if (directory / name).is_symlink():  # broken, or in a circle, for which it has an error
                file_inside(directory, name)
        there, what_to_do = instead_of_weights(path.name for path in directory.iterdir())
        raise CheckpointError(f"{directory}: has {there}.\n{what_to_do}")
    index = read_index(directory)
    files = [file_inside(directory, name) for name in sorted(set(index.values()))]
    return Checkpoint(files, {tensor: directory / name for tensor, name in index.items()})


def not_held(tensor: str, file: Path) -> CheckpointError:
    """Return the error for a tensor that is not in the file that the index says."""
    return CheckpointError(
        f"{file}: has no tensor {shown(tensor)}, but {INDEX_FILE} says so.\n"
        "The files are of different models; download them again."
    )
