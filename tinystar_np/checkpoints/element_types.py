"""Element types of safetensors files, and how each of them becomes float32.

Weights come in four types. NumPy knows three of them; bfloat16 it does not, so its 16 bits are kept as an
unsigned integer. bfloat16 is the upper half of a float32 (the same sign and exponent, 7 bits of mantissa in
place of 23), so widening it is a shift and loses nothing:

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    bfloat16  s eeeeeeee mmmmmmm
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import CheckpointError

# The format is little-endian on every machine, hence "<".
WEIGHT_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

# No weights, but old checkpoints carry attention masks and counters of these types.
BUFFER_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
}

STORAGE_TYPES = WEIGHT_TYPES | BUFFER_TYPES


def to_float32(array: NDArray[Any], element_type: str, where: str = "array") -> NDArray[np.float32]:
    """Convert a tensor from its stored type to float32.

    array         the tensor in its storage type
    element_type  its name in the safetensors file, such as "BF16"
    where         the file and tensor, for the error message

    Returns the array itself if it is F32 already, else a new array. Raises CheckpointError if the type is not
    one of ``WEIGHT_TYPES``.
    """
    if element_type not in WEIGHT_TYPES:
        raise CheckpointError(
            f"{where} has element type {element_type}, which is none of {', '.join(WEIGHT_TYPES)}.\n"
            "Quantised checkpoints cannot be read: use the original model."
        )
    if element_type == "BF16":
        bits = array.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    # A float64 beyond float32's range becomes infinite, as in every other framework, and without a warning.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)
