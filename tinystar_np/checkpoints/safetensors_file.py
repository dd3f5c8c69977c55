"""One .safetensors file, mapped into memory: its tensors are views of the file, and nothing is read at first.

    8 bytes   length of the header, little-endian
    header    JSON: {"wte.weight": {"dtype": "F32", "shape": [50257, 768], "data_offsets": [0, 154389504]}}
    data      the tensors' bytes, one after another

The safetensors package checks the file (the offsets cover the data without gap or overlap, every shape fits
its bytes), but copies each tensor that it hands out. So it only checks here. The arrays are views of a memory
map, which the operating system fills page by page when they are first touched, and shares between processes.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from tinystar_np.checkpoints.element_types import STORAGE_TYPES
from tinystar_np.checkpoints.json_file import download_again, parse_json_object
from tinystar_np.errors import CheckpointError


class SafetensorsFile:
    """The tensors of one file, by name; read-only."""

    def __init__(self, path: Path) -> None:
        """Check the file and map it.

        Raises CheckpointError if it is missing, unreadable, damaged or not a safetensors file.
        """
        self.path = path
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file.")
        try:
            with safe_open(path, framework="np"):
                pass
            self._bytes = np.asarray(np.memmap(path, mode="r", dtype=np.uint8))
        # The package raises OSError, ValueError, TypeError, and one of its own that is only an Exception.
        except Exception as error:
            raise CheckpointError(
                f"{path}: not a complete safetensors file ({error}).\n{download_again(path)}"
            ) from error
        header_length = int.from_bytes(self._bytes[:8].tobytes(), "little")
        self._data = self._bytes[8 + header_length :]
        # Parsed once more here, because the package accepts a name that stands there twice.
        self._header = parse_json_object(self._bytes[8 : 8 + header_length].tobytes(), path)
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

    def array(self, name: str) -> NDArray[Any]:
        """View a tensor in its stored type (BF16 as uint16).

        Raises KeyError for an unknown name, CheckpointError for a type or shape that NumPy cannot hold.
        """
        entry = self._header[name]
        element_type, shape = entry["dtype"], entry["shape"]
        if element_type not in STORAGE_TYPES:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} has element type {element_type}, which cannot be read.\n"
                "Quantised checkpoints are not supported: use the original model."
            )
        start, end = entry["data_offsets"]
        try:
            array = self._data[start:end].view(STORAGE_TYPES[element_type]).reshape(shape)
        except ValueError as error:  # an empty tensor of shape (0, 2⁶²) is a valid file, but not an array
            raise CheckpointError(f"{self.path}: tensor {name!r} of shape {shape}: {error}.") from error
        if not array.flags.aligned:
            # Tensors may start at any byte. NumPy computes correctly on such a view, but slowly, and copies
            # it again at each matrix product: one copy now is cheaper.
            array = array.copy()
            array.flags.writeable = False
        return array
