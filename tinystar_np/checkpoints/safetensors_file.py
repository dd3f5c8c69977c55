"""Reading safetensors files: a file is mapped into memory, so that nothing is read at first.

    8 bytes   length of the header, little-endian
    header    JSON: {"wte.weight": {"dtype": "F32", "shape": [50257, 768], "data_offsets": [0, 154389504]}}
    data      the tensors' bytes, one after another

The safetensors package checks the file (the offsets cover the data without gap or overlap, every shape fits
its bytes), but copies each tensor that it returns. So here it only checks. The arrays are views of a memory
map, whose pages the operating system reads when they are first used, and shares between processes.
"""

import mmap
import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from tinystar_np.checkpoints.element_types import STORAGE_TYPES
from tinystar_np.checkpoints.json_file import SIZE_LIMIT, download_again, one_line, parse_json_object, shown
from tinystar_np.checkpoints.model_files import CONVERT
from tinystar_np.errors import CheckpointError
from tinystar_np.fast.mapped import let_go

# Other kinds of files by their first bytes. torch.save writes a zip file with a pickle in it.
PICKLE = "a pickle as PyTorch writes them, which is not opened: it can run code"
IMPOSTORS = {
    **dict.fromkeys((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), PICKLE),
    b"GGUF": "one of GGUF",
    b"version https://git-lfs": "a pointer of Git LFS, not the file that it stands for",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


class StoredTensor(NamedTuple):
    """A tensor within a mapped file; read-only."""

    path: Path
    name: str  # in the file
    element_type: str  # as the file names it, such as "F32" or "BF16"
    shape: tuple[int, ...]
    memory: NDArray[np.uint8]  # a view of the file
    channels_last: bool = False  # whether the second axis is the last one in the file

    def channels_moved(self) -> Self:
        """Return the tensor with its last axis as the second: (out, …, in) → (out, in, …)."""
        out, *inner, channels = self.shape
        return self._replace(shape=(out, channels, *inner), channels_last=True)

    def elements(self) -> NDArray:
        """View the elements as a flat array, in the file's order, in the stored type (BF16 as uint16).

        They may be unaligned.

        Raises CheckpointError for a type that NumPy cannot hold.
        """
        if self.element_type not in STORAGE_TYPES:
            raise CheckpointError(
                f"{self.path}: tensor {shown(self.name)} has element type {self.element_type}, "
                "which cannot be read.\nQuantised checkpoints are not supported: use the original model."
            )
        return self.memory.view(STORAGE_TYPES[self.element_type])

    def view(self) -> NDArray:
        """View the tensor; its elements may be unaligned.

        Raises CheckpointError for a type or shape that NumPy cannot hold.
        """
        try:
            if self.channels_last:
                out, channels, *inner = self.shape
                return np.moveaxis(self.elements().reshape(out, *inner, channels), -1, 1)
            return self.elements().reshape(self.shape)
        # An empty tensor of shape (0, 2⁶²), or one of 65 axes, is a valid file, but not an array.
        except ValueError as error:
            raise CheckpointError(
                f"{self.path}: tensor {shown(self.name)} of shape {shown(self.shape)}: {one_line(error)}.\n"
                f"{download_again(self.path)}"
            ) from error

    def array(self) -> NDArray:
        """View the tensor, or copy it where it is unaligned; raises as ``view`` does."""
        array = self.view()
        if not array.flags.aligned:
            # Tensors may start at any byte. NumPy computes correctly on such a view, but slowly, and copies
            # it again at each matrix product: one copy now is cheaper.
            array = array.copy()
            array.flags.writeable = False
        return array

    def let_go(self) -> None:
        """Release the memory of its pages in the mapped file; they can be read again."""
        let_go(self.memory)


class MappedFile(NamedTuple):
    """A safetensors file: its tensors by name, in the header's order, and its metadata."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def map_safetensors(path: Path) -> MappedFile:
    """Check a file and map it.

    Raises CheckpointError if the file is missing, unreadable, damaged or not a safetensors file.
    """
    if not os.path.isfile(path):  # a pipe or a device may never end
        raise CheckpointError(f"{path}: there is no such file.")
    beginning = b""
    try:
        with path.open("rb") as file:
            beginning = file.read(32)
            length = int.from_bytes(beginning[:8], "little")
            if length > SIZE_LIMIT:  # before memory is allocated for it
                raise ValueError(f"its header has {length} bytes, which no model's has")
            with safe_open(path, framework="np"):
                pass
            mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read.\nSee that you may read it.") from error
    # The package raises OSError, ValueError, TypeError, and one of its own, a subclass of Exception.
    except Exception as error:
        raise _unreadable(path, beginning, one_line(error)) from error
    # Parsed once more here, because the package accepts duplicate names.
    header = parse_json_object(mapped[8 : 8 + length].tobytes(), path)
    metadata = header.pop("__metadata__", None) or {}  # the package has checked that it holds strings
    data = mapped[8 + length :]
    tensors = {
        name: StoredTensor(
            path, name, entry["dtype"], tuple(entry["shape"]), data[slice(*entry["data_offsets"])]
        )
        for name, entry in header.items()
    }
    return MappedFile(tensors, metadata)


def _unreadable(path: Path, beginning: bytes, problem: str) -> CheckpointError:
    """Return the error for an unreadable file, which names its format if that is another, known one."""
    # 80 02 and six zeros begin a file whose header has 640 bytes; in a pickle no zeros follow.
    is_length = int.from_bytes(beginning[:8], "little") < 1 << 32
    for first, words in IMPOSTORS.items():
        if beginning.startswith(first) and not is_length:
            what_to_do = CONVERT if words is PICKLE else download_again(path)
            return CheckpointError(f"{path}: is no safetensors file but {words}.\n{what_to_do}")
    return CheckpointError(f"{path}: not a complete safetensors file ({problem}).\n{download_again(path)}")
