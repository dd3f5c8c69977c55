"""Arrays into a safetensors file, one after the other.

    8 bytes: length of the header | the header, JSON: {name: {dtype, shape, data_offsets}} | the arrays' bytes

The package's own ``save_file`` copies all arrays before the first byte is written. Here each goes from where
it lies into the file, so that writing takes no memory, and can be stopped.
Format: https://github.com/huggingface/safetensors, "Format".
"""

import json
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 8  # bytes: no element that is stored is wider
TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


def write_safetensors(
    file: BinaryIO, arrays: Mapping[str, NDArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name, and texts about them, to a file that is open for writing.

    The widest elements come first, then by name: so every array begins at a multiple of its element's width.
    Raises OSError where the file cannot be written.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": TYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in names:
        little_endian = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        file.write(np.ascontiguousarray(little_endian).reshape(-1).view(np.uint8).data)
