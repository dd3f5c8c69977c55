"""Files of the safetensors format: one is mapped into memory, so that nothing is read at first; or written.

    8 bytes   length of the header, little-endian
    header    JSON: {"wte.weight": {"dtype": "F32", "shape": [50257, 768], "data_offsets": [0, 154389504]}}
    data      the tensors' bytes, one after another

The safetensors package checks the file (the offsets cover the data without gap or overlap, every shape fits
its bytes), but copies each tensor that it hands out. So it only checks here. The arrays are views of a memory
map, which the operating system fills page by page when they are first touched, and shares between processes.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from tinystar_np.checkpoints.element_types import STORAGE_TYPES
from tinystar_np.checkpoints.json_file import SIZE_LIMIT, download_again, one_line, parse_json_object, shown
from tinystar_np.checkpoints.model_files import CONVERT
from tinystar_np.errors import CheckpointError

# What is found in place of safetensors, by its first bytes. torch.save writes a zip file with a pickle in it.
PICKLE = "a pickle as PyTorch writes them, which is not opened: it can run code"
IMPOSTORS = {
    **dict.fromkeys((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), PICKLE),
    b"GGUF": "one of GGUF",
    b"version https://git-lfs": "a pointer of Git LFS, not the file that it stands for",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


class SafetensorsFile:
    """The tensors of one file, by name; read-only."""

    def __init__(self, path: Path) -> None:
        """Check the file and map it.

        Raises CheckpointError if it is missing, unreadable, damaged or not a safetensors file.
        """
        self.path = path
        if not path.is_file():  # a pipe or a device may never end
            raise CheckpointError(f"{path}: there is no such file.")
        beginning = b""
        try:
            with path.open("rb") as file:
                beginning = file.read(32)
                length = int.from_bytes(beginning[:8], "little")
                if length > SIZE_LIMIT:  # before anything makes room for it
                    raise ValueError(f"its header has {length} bytes, which no model's has")
                with safe_open(path, framework="np"):
                    pass
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error.strerror}).\nSee that you may read it."
            ) from error
        # The package raises OSError, ValueError, TypeError, and one of its own that is only an Exception.
        except Exception as error:
            raise _unreadable(path, beginning, one_line(str(error))) from error
        self._bytes = np.frombuffer(mapped, dtype=np.uint8)
        self._data = self._bytes[8 + length :]
        # Parsed once more here, because the package accepts a name that stands there twice.
        self._header = parse_json_object(self._bytes[8 : 8 + length].tobytes(), path)
        self._header.pop("__metadata__", None)

    @property
    def names(self) -> list[str]:
        """Names of the tensors, in the order of the header."""
        return list(self._header)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return self._data.size

    def element_type(self, name: str) -> str:
        """Type of a tensor as the file names it, such as "F32" or "BF16"."""
        return str(self._header[name]["dtype"])

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self._header[name]["shape"])

    def array(self, name: str) -> NDArray:
        """View a tensor in its stored type (BF16 as uint16).

        Raises KeyError for an unknown name, CheckpointError for a type or shape that NumPy cannot hold.
        """
        try:
            array = self._flat(name).reshape(self.shape(name))
        # An empty tensor of shape (0, 2⁶²), or one of 65 axes, is a valid file, but not an array.
        except ValueError as error:
            raise CheckpointError(
                f"{self.path}: tensor {shown(name)} of shape {shown(self.shape(name))}: {error}.\n"
                f"{download_again(self.path)}"
            ) from error
        if not array.flags.aligned:
            # Tensors may start at any byte. NumPy computes correctly on such a view, but slowly, and copies
            # it again at each matrix product: one copy now is cheaper.
            array = array.copy()
            array.flags.writeable = False
        return array

    def blocks(self, name: str, most: int) -> Iterator[NDArray]:
        """Give a tensor's elements in its stored type, flat and at most so many at a time.

        Raises as ``array`` does, but never holds a copy of the whole tensor.
        """
        flat = self._flat(name)
        return (flat[i : i + most] for i in range(0, flat.size, most))

    def let_go(self) -> None:
        """Let the system take the memory that the file occupies here; what is read again comes back."""
        let_go(self._bytes)

    def _flat(self, name: str) -> NDArray:
        """View a tensor's elements in a row; they may be unaligned."""
        element_type = self.element_type(name)
        if element_type not in STORAGE_TYPES:
            raise CheckpointError(
                f"{self.path}: tensor {shown(name)} has element type {element_type}, which cannot be read.\n"
                "Quantised checkpoints are not supported: use the original model."
            )
        start, end = self._header[name]["data_offsets"]
        return self._data[start:end].view(STORAGE_TYPES[element_type])


def _unreadable(path: Path, beginning: bytes, problem: str) -> CheckpointError:
    """Say why a file cannot be read and what to do: if it can be seen, by what it is instead."""
    # 80 02 and six zeros begin a file whose header has 640 bytes; in other formats the bytes go on.
    is_length = int.from_bytes(beginning[:8], "little") < 1 << 32
    for first, words in IMPOSTORS.items():
        if beginning.startswith(first) and not is_length:
            what_to_do = CONVERT if words is PICKLE else download_again(path)
            return CheckpointError(f"{path}: is no safetensors file but {words}.\n{what_to_do}")
    return CheckpointError(f"{path}: not a complete safetensors file ({problem}).\n{download_again(path)}")


def on_file(array: object) -> bool:
    """Say whether an array is a view of a mapped file."""
    return _map_of(array) is not None


def let_go(array: NDArray) -> None:
    """Let the system take the memory that an array's file occupies here; what is read again comes back."""
    found = _map_of(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def _map_of(array: object) -> mmap.mmap | None:
    while isinstance(array, np.ndarray):
        array = array.base
    whole = array.obj if isinstance(array, memoryview) else None
    return whole if isinstance(whole, mmap.mmap) else None


def write_safetensors(file: BinaryIO, arrays: Mapping[str, NDArray], metadata: Mapping[str, str]) -> None:
    """Write arrays by name, and texts about them, to a file that is open for writing."""
    # The package writes an array's memory as it lies there, whatever its strides say.
    file.write(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, dict(metadata)))
